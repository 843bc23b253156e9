"""How streams are spread over supervisors. Pure: every supervisor works it out for itself, from
the same few numbers of the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Supervisor:
    """A living supervisor. held: streams whose lease it has; capacity: at most so many."""

    id: str
    held: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Move:
    """What one supervisor does now: take so many streams, or give so many back. Never both."""

    take: int = 0
    release: int = 0


def targets(wanted: int, supervisors: Sequence[Supervisor]) -> dict[str, int]:
    """Streams that each supervisor should have, by its id.

    Those below their capacity differ by one at most; who holds more already gets the odd ones,
    so that as few as possible move. Together: `wanted`, or all capacity where that is less.
    """
    goal: dict[str, int] = {}
    left = wanted
    # The smallest first: what they cannot hold goes to the others.
    rest = sorted(supervisors, key=lambda one: (one.capacity, one.id))
    while rest and rest[0].capacity * len(rest) <= left:
        goal[rest[0].id] = rest[0].capacity
        left -= rest[0].capacity
        rest = rest[1:]
    if not rest:
        return goal
    share, odd = divmod(left, len(rest))
    for place, one in enumerate(sorted(rest, key=lambda one: (-one.held, one.id))):
        goal[one.id] = share + (place < odd)
    return goal


def plan(me: str, wanted: int, free: int, supervisors: Sequence[Supervisor]) -> Move:
    """What supervisor `me` does, which is one of them.

    wanted: streams that are to run; free: those of them that nobody holds. A stream is given back
    only for one who lacks it: what is free goes first.
    """
    goal = targets(wanted, supervisors)
    mine = next((one for one in supervisors if one.id == me), None)
    if mine is None:
        return Move()
    if mine.held <= goal[me]:
        return Move(take=min(goal[me] - mine.held, free))
    lacking = sum(max(0, goal[one.id] - one.held) for one in supervisors)
    over = mine.held - goal[me]
    if mine.held > mine.capacity:
        return Move(release=max(mine.held - mine.capacity, min(over, max(0, lacking - free))))
    return Move(release=min(over, max(0, lacking - free)))
