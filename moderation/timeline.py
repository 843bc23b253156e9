"""Curves, thresholds, segments and unseen parts -> the geometry of an SVG picture. Pure.

One strip a label, one below the other, over a common axis of time. What does not fit is named
in words: a picture of forty lines tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moderation.curves import Curve
from moderation.policy import Policy, Rule
from moderation.rolling import closing
from moderation.types import Segment

WIDTH = 1000
LEFT, RIGHT = 160, 976
TOP = 6
STRIP = 54
GAP = 12
AXIS = 24
MAX_STRIPS = 8
MAX_MARKS = 200
"""Segments, and unseen parts, that are drawn; the verdict has them all."""
LEAST = 2.0
"""Width of the shortest mark: a segment of one frame in three hours has to be visible."""
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of time. kind: a decision, or `unseen`."""

    x: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Threshold:
    y: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Strip:
    """label's own row, from `top` to `bottom`. line, area: SVG paths."""

    label: str
    top: float
    bottom: float
    line: str
    area: str
    thresholds: tuple[Threshold, ...]
    marks: tuple[Mark, ...]
    peaks: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """height: of the whole, for a width of WIDTH. others: labels without a strip, in words."""

    height: float
    bottom: float
    strips: tuple[Strip, ...]
    unseen: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    others: str
    summary: str


def draw(
    curves: Sequence[Curve],
    segments: Sequence[Segment],
    unseen: Sequence[tuple[float, float]],
    policy: Policy,
    duration_s: float,
) -> Drawing:
    """The timeline of one video. duration_s: above 0."""
    scale = _Scale(duration_s)
    rules = {rule.label: rule for rule in policy.rules}
    chosen, rest = _choose(curves, segments, rules)
    strips = []
    for row, curve in enumerate(chosen):
        top = TOP + row * (STRIP + GAP)
        own = [segment for segment in segments if segment.label == curve.label]
        strips.append(_strip(curve, own, rules.get(curve.label), scale, float(top)))
    bottom = float(TOP + max(1, len(strips)) * (STRIP + GAP) - GAP)
    others = ", ".join(f"{curve.label} {curve.peak:.2f}" for curve in rest)
    return Drawing(
        height=bottom + AXIS,
        bottom=bottom,
        strips=tuple(strips),
        unseen=tuple(
            _mark(scale, start, end, "unseen", f"not seen: {clock(start)} to {clock(end)}")
            for start, end in unseen[:MAX_MARKS]
        ),
        ticks=_ticks(scale),
        others=others,
        summary=f"{len(strips)} score curves over {clock(duration_s)}, {len(segments)} segments",
    )


def clock(seconds: float) -> str:
    """12.3 -> `0:12.3`, 3723 -> `1:02:03.0`."""
    whole, tenths = divmod(round(max(0.0, seconds) * 10), 10)
    return f"{_hands(whole)}.{tenths}"


def _hands(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


@dataclass(frozen=True, slots=True)
class _Scale:
    duration_s: float

    def x(self, time_s: float) -> float:
        part = min(1.0, max(0.0, time_s / self.duration_s))
        return round(LEFT + part * (RIGHT - LEFT), 1)


def _choose(
    curves: Sequence[Curve], segments: Sequence[Segment], rules: dict[str, Rule]
) -> tuple[list[Curve], list[Curve]]:
    """The curves that are worth a strip, the highest first, and the others.

    Those with a segment, the gravest before others, then those that come near to opening one; at
    least the highest.
    """
    named: dict[str, int] = {}
    for segment in segments:
        grave = segment.decision.severity
        named[segment.label] = max(grave, named.get(segment.label, grave))
    ordered = sorted(curves, key=lambda c: (-named.get(c.label, -1), -c.peak, c.label))
    chosen = [
        curve
        for place, curve in enumerate(ordered)
        if place == 0 or curve.label in named or _near(curve, rules.get(curve.label))
    ][:MAX_STRIPS]
    return chosen, [curve for curve in ordered if curve not in chosen]


def _near(curve: Curve, rule: Rule | None) -> bool:
    return rule is not None and curve.peak >= closing(rule) / 2


def _strip(
    curve: Curve, segments: Sequence[Segment], rule: Rule | None, scale: _Scale, top: float
) -> Strip:
    bottom = top + STRIP

    def y(score: float) -> float:
        return round(bottom - score * STRIP, 1)

    lines, areas = [], []
    for run in _runs(curve):
        at = [f"{scale.x(time_s)} {y(score)}" for time_s, score in run]
        # A lone moment is a dot: a line of no length with round ends.
        lines.append("M" + "L".join(at if len(at) > 1 else at * 2))
        first, last = scale.x(run[0][0]), scale.x(run[-1][0])
        areas.append(f"M{first} {bottom}L" + "L".join(at) + f"L{last} {bottom}Z")
    marks = tuple(
        _mark(scale, one.start_s, one.end_s, one.decision.value, _words(one))
        for one in segments[:MAX_MARKS]
    )
    peaks = tuple((scale.x(one.peak_s), y(one.score), _words(one)) for one in segments[:MAX_MARKS])
    return Strip(
        label=curve.label,
        top=top,
        bottom=bottom,
        line="".join(lines),
        area="".join(areas),
        thresholds=_thresholds(rule, y) if rule else (),
        marks=marks,
        peaks=peaks,
    )


def _runs(curve: Curve) -> list[list[tuple[float, float]]]:
    """The curve in pieces, broken where a moment was not seen."""
    runs: list[list[tuple[float, float]]] = [[]]
    for time_s, score in curve.points:
        if score is None:
            runs.append([])
        else:
            runs[-1].append((time_s, score))
    return [run for run in runs if run]


def _thresholds(rule: Rule, y: Callable[[float], float]) -> tuple[Threshold, ...]:
    told = [
        Threshold(y(value), kind, f"{words} from {value:g}")
        for kind, words, value in (
            ("review", "review", rule.review_at),
            ("block", "block", rule.block_at),
        )
        if value is not None
    ]
    return tuple(told)


def _mark(scale: _Scale, start: float, end: float, kind: str, title: str) -> Mark:
    x = scale.x(start)
    width = max(LEAST, round(scale.x(end) - x, 1))
    return Mark(min(x, RIGHT - width), width, kind, title)


def _words(segment: Segment) -> str:
    span = f"{clock(segment.start_s)} to {clock(segment.end_s)}"
    peak = f"{segment.score:.2f} at {clock(segment.peak_s)}"
    return f"{segment.label}: {segment.decision.value}, {span}, peak {peak}"


def _ticks(scale: _Scale) -> tuple[tuple[float, str], ...]:
    """At most nine marks of the axis, on round times."""
    step = next((step for step in STEPS_S if scale.duration_s / step <= 8), STEPS_S[-1])
    count = min(8, int(scale.duration_s // step))
    return tuple((scale.x(i * step), _hands(i * step)) for i in range(count + 1))
