"""`moderation watch`: one live stream, in this process alone."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Final

import typer

from moderation.cli.out import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_WRONG,
    Config,
)
from moderation.cli.scan import FailOn

if TYPE_CHECKING:
    from moderation.cli.screen import Screen
    from moderation.live.watching import Watching

STEP_S: Final = 0.25


def watch(
    url: Annotated[str, typer.Argument(metavar="URL", show_default=False)],
    policy: Annotated[
        str | None, typer.Option(help="default, strict, lenient or one of your own.")
    ] = None,
    interval: Annotated[
        float, typer.Option(min=0.1, max=60.0, help="Seconds between frames that are looked at.")
    ] = 1.0,
    hold: Annotated[
        float, typer.Option(min=0.0, help="Seconds without the label until an alert is closed.")
    ] = 10.0,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Stop after so long; default: at Ctrl-C.")
    ] = None,
    fail_on: Annotated[
        FailOn | None, typer.Option(help="Exit with 1 at such an alert, or a graver one.")
    ] = None,
    settings_file: Config = None,
    json: Annotated[bool, typer.Option("--json", help="One event a line, in JSON.")] = False,
) -> int:
    """Watch one live stream without a server: rtmp, rtsp, srt, udp, or HLS, FLV, MPEG-TS by http.

    Exit code: 0, or 1 with --fail-on, or 3 when the stream could not be read.
    """
    from moderation.policy import choose_policy, load_policies
    from moderation.settings import load_settings

    settings = load_settings(settings_file)
    chosen = choose_policy(load_policies(settings.policy_dir), policy or settings.default_policy)

    import random

    from moderation.analyse_live import score_frames
    from moderation.cli.screen import Screen
    from moderation.live.clock import steady_utc
    from moderation.live.follow import Follower
    from moderation.live.opened import UrlSource
    from moderation.live.proxy_thread import ProxyThread
    from moderation.live.reader import ReaderOptions
    from moderation.live.source import plan
    from moderation.live.watching import Watching
    from moderation.models.runner import load_scorer
    from moderation.video.ffmpeg import program

    shown = plan(url, settings).shown  # an address that may not be opened is told at once
    now, ffmpeg = steady_utc(), program(settings.ffmpeg)
    options = ReaderOptions(ffmpeg, interval_s=interval, max_pixels=settings.max_pixels)
    with ExitStack() as stack:
        scorer = load_scorer(settings)
        stack.callback(scorer.close)
        proxy = stack.enter_context(ProxyThread(settings.fetch_allow))
        watching = stack.enter_context(
            Watching(
                lambda on_frame: Follower(
                    UrlSource(url, settings, proxy, program=ffmpeg),
                    scorer.keys,
                    options,
                    on_frame,
                    now=now,
                    chance=random.random,
                ),
                lambda pixels, floors: score_frames(
                    scorer, {key: one[None] for key, one in pixels.items()}, (0,), floors
                )[0],
                chosen,
                interval_s=interval,
                hold_s=hold,
                now=now,
            )
        )
        screen = stack.enter_context(Screen(shown, json=json))
        try:
            _run(watching, screen, seconds)
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
        screen.tell(watching.finish())
        state = watching.standing().state
    if interrupted:
        return EXIT_INTERRUPTED
    if fail_on is not None and screen.reached(fail_on.value):
        return EXIT_WRONG
    return EXIT_INCOMPLETE if state.over and state.value != "ended" else EXIT_OK


def _run(watching: Watching, screen: Screen, seconds: float | None) -> None:
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        screen.tell(watching.step(STEP_S))
        standing = watching.standing()
        screen.show(standing)
        if standing.state.over:
            return
