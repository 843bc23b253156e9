"""Frame scores of one stream -> alerts: one a segment, opened, escalated, closed. Pure.

A segment is what `rolling` makes of the scores by the policy's rules, as in a film. Two of one
label that are less than `hold_s` apart are one to people, and get one alert. What is open can be
saved and restored, so that whoever goes on with the stream raises no second alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from moderation.policy import Policy
from moderation.rolling import (
    BRIDGE_S,
    Boxes,
    Change,
    Passage,
    RollingAggregate,
    RollingMemory,
)
from moderation.store.live_records import AlertChange
from moderation.types import Decision, LabelScore


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that is not closed. Capture times in seconds UTC.

    start_s: of the segment's first frame; captured_s: of the frame that opened the alert; end_s:
    of the last frame that showed it. away: the segment has ended, and `hold_s` runs.
    """

    label: str
    decision: Decision
    threshold: float | None
    score: float
    sublabel: str | None
    boxes: Boxes
    start_s: float
    captured_s: float
    end_s: float
    away: bool = False

    def change(self, kind: Literal["opened", "escalated", "closed"]) -> AlertChange:
        """For the store."""
        return AlertChange(
            kind=kind,
            label=self.label,
            decision=self.decision,
            score=self.score,
            start=_utc(self.start_s),
            captured=_utc(self.captured_s),
            end=_utc(self.end_s) if kind == "closed" else None,
            threshold=self.threshold,
            sublabel=self.sublabel,
            boxes=self.boxes,
        )


@dataclass(frozen=True, slots=True)
class AlertMemory:
    """What `StreamAlerts` saves. `version` changes with its form."""

    version: Literal[1]
    rolling: RollingMemory
    alerts: tuple[OpenAlert, ...]


_CODEC = TypeAdapter(AlertMemory)


class StreamAlerts:
    """The alerts of one stream. Not for several threads at once.

    hold_s: a label must be away for so long before its alert is closed. bridge_s: without any
    score for longer than this, and `hold_s`, a segment ends: what comes after is another one.
    memory: of `memory()`, of this stream under this policy or another. Raises ValueError where
    that cannot be read.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        hold_s: float,
        bridge_s: float = BRIDGE_S,
        memory: Mapping[str, Any] | None = None,
    ) -> None:
        self._hold_s = hold_s
        self._bridge_s = max(bridge_s, hold_s)
        self._rolling = RollingAggregate(policy, bridge_s=self._bridge_s)
        self._last_s: float | None = None
        self._open: dict[str, OpenAlert] = {}
        if memory is not None:
            self._remember(memory, frozenset(rule.label for rule in policy.rules))

    @property
    def open(self) -> tuple[OpenAlert, ...]:
        return tuple(self._open.values())

    def add(
        self, captured_s: float, peaks: Mapping[str, LabelScore] | None, picture: str | None = None
    ) -> tuple[AlertChange, ...]:
        """The next frame's scores; None: it was dropped unseen. picture: its PDQ hash, as in
        `aggregate.Frame`. A frame that is not later than the last one changes nothing: it was
        overtaken on its way."""
        if self._last_s is not None and captured_s <= self._last_s:
            return ()
        self._last_s = captured_s
        told: list[AlertChange] = []
        for change in self._rolling.add(captured_s, peaks, picture=picture):
            told += self._apply(change, captured_s)
        return (*told, *self._close(captured_s))

    def tick(self, now_s: float) -> tuple[AlertChange, ...]:
        """Closes what is due although no frame comes. now_s: UTC."""
        if self._last_s is not None and now_s - self._last_s > self._bridge_s:
            for change in self._rolling.finish():
                self._end(change.passage)
        return self._close(now_s)

    def finish(self) -> tuple[AlertChange, ...]:
        """Closes all that is open: the stream is over, or no longer wanted."""
        for change in self._rolling.finish():
            self._end(change.passage)
        closed = tuple(alert.change("closed") for alert in self._open.values())
        self._open.clear()
        return closed

    def memory(self) -> dict[str, Any]:
        """JSON. To be saved with every change that was told, in one transaction, and now and
        then between."""
        kept = AlertMemory(1, self._rolling.memory(), self.open)
        saved: dict[str, Any] = _CODEC.dump_python(kept, mode="json")
        return saved

    def _remember(self, memory: Mapping[str, Any], labels: frozenset[str]) -> None:
        try:
            kept = _CODEC.validate_python(memory)
        except ValidationError as error:
            raise ValueError(f"alerts cannot be restored: {error.error_count()} faults") from error
        self._rolling.remember(kept.rolling)
        self._last_s = kept.rolling.last_s
        # Where the policy no longer has the label, nothing would ever end its alert.
        self._open = {
            alert.label: alert if alert.label in labels else replace(alert, away=True)
            for alert in kept.alerts
        }

    def _apply(self, change: Change, captured_s: float) -> tuple[AlertChange, ...]:
        passage = change.passage
        known = self._open.get(passage.label)
        if change.kind == "closed":
            self._end(passage)
            return ()
        closed: tuple[AlertChange, ...] = ()
        if known is not None and known.away and passage.start_s - known.end_s > self._hold_s:
            closed, known = (known.change("closed"),), None
        if known is None:
            opened = _alert(passage, captured_s)
            self._open[passage.label] = opened
            return (*closed, opened.change("opened"))
        merged = replace(_merged(known, passage), away=False)
        self._open[passage.label] = merged
        if merged.decision.severity > known.decision.severity:
            return (merged.change("escalated"),)
        return ()

    def _end(self, passage: Passage) -> None:
        known = self._open.get(passage.label)
        # Without an alert it was restored from a memory that had none: nothing to close.
        if known is not None:
            self._open[passage.label] = replace(_merged(known, passage), away=True)

    def _close(self, now_s: float) -> tuple[AlertChange, ...]:
        due = [
            alert
            for alert in self._open.values()
            if alert.away and now_s - alert.end_s >= self._hold_s
        ]
        for alert in due:
            del self._open[alert.label]
        return tuple(alert.change("closed") for alert in due)


def _alert(passage: Passage, captured_s: float) -> OpenAlert:
    return OpenAlert(
        label=passage.label,
        decision=passage.decision,
        threshold=passage.threshold,
        score=passage.peak.score,
        sublabel=passage.sublabel,
        boxes=passage.boxes,
        start_s=passage.start_s,
        captured_s=captured_s,
        end_s=passage.end_s,
    )


def _merged(alert: OpenAlert, passage: Passage) -> OpenAlert:
    """The alert with what its segment, or one that follows within `hold_s`, has become."""
    merged = replace(alert, end_s=max(alert.end_s, passage.end_s))
    if passage.decision.severity > alert.decision.severity:
        merged = replace(merged, decision=passage.decision, threshold=passage.threshold)
    if passage.peak.score > alert.score:
        merged = replace(
            merged,
            score=passage.peak.score,
            sublabel=passage.sublabel,
            boxes=passage.boxes or alert.boxes,
        )
    elif passage.boxes and not alert.boxes:
        merged = replace(merged, sublabel=passage.sublabel, boxes=passage.boxes)
    return merged


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
