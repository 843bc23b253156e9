"""`moderation scan`: verdicts for files, folders, globs and URLs, in this process alone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from enum import StrEnum
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Annotated, Final

import typer

from moderation.cli.out import EXIT_INTERRUPTED, Config, note

if TYPE_CHECKING:
    from moderation.cli.html.collect import Collector
    from moderation.cli.report import Report, Tally
    from moderation.scan import Source, State
    from moderation.types import Decision, Verdict


VIEWS: Final = 64
"""Of one picture, at most: frames, tiles and backgrounds (`DecodePlan.max_views`)."""


class FailOn(StrEnum):
    """The mildest decision that makes the exit code 1."""

    REVIEW = "review"
    BLOCK = "block"


class Thumbnails(StrEnum):
    """How the report shows pictures."""

    BLURRED = "blurred"
    CLEAR = "clear"
    NONE = "none"


def scan(
    what: Annotated[
        list[str], typer.Argument(metavar="PATH|FOLDER|GLOB|URL ...", show_default=False)
    ],
    policy: Annotated[
        str | None, typer.Option(help="default, strict, lenient or one of your own.")
    ] = None,
    fail_on: Annotated[
        FailOn | None, typer.Option(help="Exit with 1 at such a decision, or a graver one.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="STATE", help="Keep what is done in this file, and leave it out."),
    ] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Also write a report, one HTML file."),
    ] = None,
    thumbnails: Annotated[
        Thumbnails,
        typer.Option(
            "--report-thumbnails",
            help="Pictures in the report: covered until one is held, clear, or none at all.",
        ),
    ] = Thumbnails.BLURRED,
    settings_file: Config = None,
    json: Annotated[bool, typer.Option("--json", help="One verdict a line, in JSON.")] = False,
) -> int:
    """Moderate pictures and videos without a server. Every file of a folder gets its line.

    Exit code: 0, or 1 with --fail-on, or 3 when some files could not be analysed.
    """
    from moderation.policy import choose_policy, load_policies
    from moderation.settings import load_settings

    settings = load_settings(settings_file)
    chosen = choose_policy(load_policies(settings.policy_dir), policy or settings.default_policy)

    # The heavy parts last: a wrong option is told at once.
    from moderation.analyse import Analyser
    from moderation.analyse_video import VideoAnalyser
    from moderation.cli.html.collect import collecting
    from moderation.cli.report import Tally, reporter
    from moderation.cli.watch import Watch
    from moderation.decoders import DecoderPool
    from moderation.models.runner import load_scorer
    from moderation.scan import Moderator, State, expand, leave_out
    from moderation.scan import scan as scan_all

    # In flight: enough that decoders and models both always have the next picture.
    threads = settings.decoders + settings.max_batch
    # Our own pictures are never refused for want of room.
    roomy = settings.model_copy(update={"max_queue": max(settings.max_queue, threads * VIEWS)})
    tally = Tally()
    with ExitStack() as stack:
        scorer = load_scorer(roomy, lazy=True)
        stack.callback(scorer.close)
        pool = stack.enter_context(DecoderPool.from_settings(settings))
        state = stack.enter_context(State(resume, chosen.ref, scorer.models)) if resume else None

        def sources(tell: Callable[[Decision], None]) -> Iterator[Source]:
            return expand(what) if state is None else leave_out(expand(what), state, tell)

        def count() -> int:
            return sum(1 for _ in sources(lambda decision: None))

        collector = None
        if report_file is not None:
            collector = stack.enter_context(
                collecting(
                    report_file,
                    what=what,
                    policy=chosen,
                    scorer=scorer,
                    pool=pool,
                    settings=settings,
                    pictures=thumbnails.value,
                )
            )
        report, bars = stack.enter_context(reporter(count, json=json))
        watch = Watch(bars, collector)
        moderator = Moderator(
            analyser=Analyser(scorer, pool, settings),
            videos=lambda seed: VideoAnalyser.from_settings(scorer, settings, seed=seed),
            turns=BoundedSemaphore(1),
            policy=chosen,
            settings=settings,
            models=scorer.models,
            device=scorer.device,
            patience=threads,
            watcher=watch,
        )
        examine = watch.around(moderator)
        verdicts = stack.enter_context(
            closing(scan_all(sources(tally.add_earlier), examine, threads=threads))
        )
        try:
            _run(verdicts, report, tally, state, collector)
        except KeyboardInterrupt:
            # Leaving the block ends decoders and models; nothing in flight is waited for.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            interrupted = True
        else:
            interrupted = False
        if collector is not None:
            collector.report.finish(interrupted=interrupted, earlier=tally.earlier)
    if not json:
        note(("interrupted; " if interrupted else "") + tally.words())
    return EXIT_INTERRUPTED if interrupted else tally.exit_code(fail_on)


def _run(
    verdicts: Iterator[tuple[Source, Verdict]],
    report: Report,
    tally: Tally,
    state: State | None,
    collector: Collector | None,
) -> None:
    for source, verdict in verdicts:
        report(verdict)
        tally.add(verdict)
        if collector is not None:
            collector.add(verdict)
        if state is not None:
            state.add(source, verdict)
