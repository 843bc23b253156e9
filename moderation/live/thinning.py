"""Which streams' frames are scored next when not all can be, and whether that is a shortage. Pure.

Fair queueing: every scored frame costs its stream its own interval, on a clock that only scoring
moves; the stream that has got furthest behind is next. So in a shortage all are thinned alike by
their intervals, and none waits for ever. To risky streams a frame costs less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

RISKY_WEIGHT = 3.0
"""How much finer the interval of a risky stream stays."""

NEW_S = 30.0
"""For so long a stream counts as new."""

HIT_S = 60.0
"""For so long after a hit a stream counts as risky."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the choice knows of one stream. Times in seconds UTC.

    interval_s: how often it wants to be scored. since_s: when it was taken in. hit_s: capture time
    of the last frame that showed something. priority: 0 to 9; one above 0 counts as risky, and 9
    twice as much as 1. served: the turn of its last scored frame.
    """

    interval_s: float
    since_s: float
    hit_s: float | None = None
    priority: int = 0
    served: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A stream's newest frame, not yet scored."""

    stream: str
    captured_s: float
    standing: Standing


@dataclass(frozen=True, slots=True)
class Pick:
    """taken: streams whose frames are scored now, with their turns, in order. late: those whose
    frame is past its deadline and is dropped. left: those that wait, and may be overtaken."""

    taken: tuple[tuple[str, float], ...]
    late: tuple[str, ...]
    left: tuple[str, ...]


def weight(standing: Standing, now_s: float) -> float:
    """1.0 for a stream with nothing special."""
    new = now_s - standing.since_s < NEW_S
    hit = standing.hit_s is not None and now_s - standing.hit_s < HIT_S
    if standing.priority > 0:
        return RISKY_WEIGHT * (1.0 + (standing.priority - 1) / 8.0)
    return RISKY_WEIGHT if new or hit else 1.0


def turn(standing: Standing, reached: float, now_s: float) -> tuple[float, float]:
    """When a stream's frame is due on the clock of turns, and when it would have been, had it not
    been away: of what it did not use one frame is saved up, and the rest decides between equals."""
    cost = standing.interval_s / weight(standing, now_s)
    due = reached if standing.served is None else standing.served + cost
    return max(reached - cost, due), due


def pick(
    waiting: Iterable[Waiting], now_s: float, *, reached: float, room: int, deadline_s: float
) -> Pick:
    """What goes into a pack of `room` frames. reached: the last turn that was taken. deadline_s:
    a frame older than this helps nobody."""
    fresh: list[tuple[float, float, str]] = []
    late: list[str] = []
    for one in waiting:
        if now_s - one.captured_s > deadline_s:
            late.append(one.stream)
        else:
            # The name last, so that the choice does not depend on the order given.
            fresh.append((*turn(one.standing, reached, now_s), one.stream))
    fresh.sort()
    taken = tuple((stream, due) for due, _, stream in fresh[:room])
    return Pick(taken, tuple(late), tuple(stream for *_, stream in fresh[room:]))


@dataclass(frozen=True, slots=True)
class ShortageRules:
    """A shortage begins when less than `begins` of the frames of a window are scored, and is over
    at `ends` or more. window_s: 1 and up. least: fewer frames in a window tell nothing."""

    begins: float = 0.9
    ends: float = 0.98
    window_s: float = 10.0
    least: int = 5


@dataclass(frozen=True, slots=True)
class ShortageChange:
    """To be told. share: of the frames that were scored, 0 to 1."""

    short: bool
    share: float


@dataclass(frozen=True, slots=True)
class Shortage:
    """Whether the machine is short. share: of the last whole window; `short` follows it."""

    since_s: float
    scored: int = 0
    dropped: int = 0
    share: float = 1.0
    short: bool = False


def count(
    shortage: Shortage,
    now_s: float,
    rules: ShortageRules,
    *,
    scored: int = 0,
    dropped: int = 0,
) -> tuple[Shortage, ShortageChange | None]:
    """Adds frames that were scored, and that were dropped because others were. At the end of a
    window: the new share, and the change where there is one."""
    shortage = replace(
        shortage, scored=shortage.scored + scored, dropped=shortage.dropped + dropped
    )
    total = shortage.scored + shortage.dropped
    if now_s - shortage.since_s < rules.window_s:
        return shortage, None
    if 0 < total < rules.least:
        return replace(shortage, since_s=now_s), None  # counted with those that follow
    # Nothing to score is no shortage.
    share = shortage.scored / total if total else 1.0
    short = share < (rules.ends if shortage.short else rules.begins)
    told = ShortageChange(short, share) if short is not shortage.short else None
    return Shortage(now_s, share=share, short=short), told
