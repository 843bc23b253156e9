"""What `scan` tells: a line for each verdict, bars while it runs, counts at the end."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

from moderation.cli.out import EXIT_INCOMPLETE, EXIT_OK, EXIT_WRONG, answer_line, printable
from moderation.types import Decision, Status, Verdict

if TYPE_CHECKING:
    from moderation.cli.bars import Bars

Report = Callable[[Verdict], None]


class Tally:
    """Counts decisions, and says what they mean for the exit code."""

    def __init__(self) -> None:
        self.decisions: Counter[Decision] = Counter()
        self.failed = 0
        self.earlier = 0

    def add(self, verdict: Verdict) -> None:
        self.decisions[verdict.decision] += 1
        self.failed += verdict.status is not Status.DONE

    def add_earlier(self, decision: Decision) -> None:
        """A source that `--resume` left out: it still counts for the exit code."""
        self.decisions[decision] += 1
        self.earlier += 1

    def exit_code(self, fail_on: str | None) -> int:
        if fail_on is not None:
            limit = Decision(fail_on).severity
            if any(decision.severity >= limit for decision in self.decisions):
                return EXIT_WRONG
        return EXIT_INCOMPLETE if self.failed else EXIT_OK

    def words(self) -> str:
        counts = ", ".join(f"{self.decisions[d]} {d.value}" for d in Decision)
        extra = [f"{self.failed} could not be analysed"] if self.failed else []
        extra += [f"{self.earlier} done before"] if self.earlier else []
        return "; ".join([f"{self.decisions.total()} scanned: {counts}", *extra])


@contextmanager
def reporter(count: Callable[[], int], *, json: bool) -> Iterator[tuple[Report, Bars | None]]:
    """Hands each verdict on as it comes: nothing is kept, so memory stays flat. With the bars
    that run meanwhile, where there is a terminal for them."""
    tell: Report = _json if json else _line
    if not sys.stderr.isatty() or (json and sys.stdout.isatty()):
        yield tell, None
        return
    from moderation.cli.bars import bars

    with bars(count()) as shown:

        def report(verdict: Verdict) -> None:
            tell(verdict)
            shown.advance()

        yield report, shown


def _json(verdict: Verdict) -> None:
    answer_line(verdict.to_json())


COLOURS: Final = {Decision.PASS: "green", Decision.REVIEW: "yellow", Decision.BLOCK: "red"}


def _line(verdict: Verdict) -> None:
    """One row of the table: decision, source, why. Columns by tabs into a pipe or file."""
    decision, source = verdict.decision, printable(verdict.source or "")
    if sys.stdout.isatty():
        word = typer.style(f"{decision.value:<6}", fg=COLOURS[decision])
        width = shutil.get_terminal_size().columns // 3
        row = f"{word}  {source:<{width}}  {_why(verdict)}"
    else:
        row = "\t".join((decision.value, source, _why(verdict)))
    sys.stdout.write(row.rstrip() + "\n")
    sys.stdout.flush()


def _why(verdict: Verdict) -> str:
    """The reasons in words, the gravest first; for a pass, nothing."""
    parts = []
    for reason in verdict.reasons:
        if reason.score is None or reason.threshold is None:
            parts.append(printable(f"{reason.label} ({reason.detail or 'not seen'})"))
        else:
            parts.append(f"{reason.label} {reason.score:.2f} (>= {reason.threshold:.2f})")
    return "; ".join(parts)
