"""What `watch` shows: a line an event on stdout, and a live table on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from moderation.cli.out import answer_line, printable
from moderation.live.watchdog import Changed
from moderation.live.watching import Standing, Told
from moderation.store.live_records import AlertChange
from moderation.types import Decision

HIGHEST = 6
"""Labels in the table."""


class Screen:
    """A context manager. shown: the stream's URL without credentials. json: an event is a line of
    JSON, with the names that events of the API have."""

    def __init__(self, shown: str, *, json: bool) -> None:
        self._shown, self._json = printable(shown), json
        self._worst = Decision.PASS
        self._live: Live | None = None
        if sys.stderr.isatty():
            self._live = Live(
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=False,
            )

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, told: Iterable[Told]) -> None:
        """Print what changed."""
        for one in told:
            if isinstance(one, AlertChange) and one.decision.severity > self._worst.severity:
                self._worst = one.decision
            if self._json:
                answer_line(as_json(one))
            else:
                sys.stdout.write(words(one) + "\n")
                sys.stdout.flush()

    def show(self, standing: Standing) -> None:
        """Draw the table anew, where there is a terminal."""
        if self._live is not None:
            self._live.update(drawn(self._shown, standing), refresh=True)

    def reached(self, decision: str) -> bool:
        """Whether there was an alert of this decision, or a graver one."""
        return self._worst.severity >= Decision(decision).severity


def as_json(told: Told) -> dict[str, Any]:
    """An event, with the names of the API's."""
    if isinstance(told, Changed):
        return {
            "type": "stream.state",
            "created": _iso(datetime.fromtimestamp(told.now, UTC)),
            "data": {
                "state": told.state.value,
                "previous": None if told.before is None else told.before.value,
                "detail": told.why,
            },
        }
    return {
        "type": f"alert.{told.kind}",
        "created": _iso(datetime.now(UTC)),
        "data": {
            "label": told.label,
            "sublabel": told.sublabel,
            "score": round(told.score, 4),
            "threshold": told.threshold,
            "decision": told.decision.value,
            "start": _iso(told.start),
            "captured": _iso(told.captured),
            "end": None if told.end is None else _iso(told.end),
            "boxes": [list(box) for box in told.boxes],
        },
    }


def words(told: Told) -> str:
    """The same as a line for people, times as of their clock."""
    if isinstance(told, Changed):
        return f"{_clock(told.now)}  {told.state.value}: {printable(told.why)}"
    end = "" if told.end is None else f" to {_clock(told.end.timestamp())}"
    return (
        f"{_clock(datetime.now(UTC).timestamp())}  alert {told.kind}: {told.label}"
        f" {told.score:.2f} {told.decision.value}, from {_clock(told.start.timestamp())}{end}"
    )


def drawn(shown: str, standing: Standing) -> Table:
    """The table of one moment."""
    table = Table(box=None, pad_edge=False, show_header=False)
    late = "–" if standing.late_s is None else f"{standing.late_s:.1f} s"
    table.add_row(Text(shown, overflow="fold"), Text(standing.state.value, style="bold"))
    table.add_row("frames scored, dropped", f"{standing.scored}, {standing.dropped}")
    table.add_row("from capture to scores", late)
    table.add_row("reconnects", str(standing.reconnects))
    alerted = {one.label for one in standing.open}
    for label, score in sorted(standing.scores.items(), key=lambda one: -one[1])[:HIGHEST]:
        style = "bold red" if label in alerted else ""
        table.add_row(Text(label, style=style), Text(f"{score:.2f}", style=style))
    return table


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")
