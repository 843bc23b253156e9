"""Streams are spread evenly, moves are few, and it comes to rest."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from moderation.live.spread import Move, Supervisor, plan, targets

FLEETS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=8).map(
    lambda rows: [
        Supervisor(f"s{number}", min(held, capacity), capacity)
        for number, (held, capacity) in enumerate(rows)
    ]
)


def even(*held: int, capacity: int = 100) -> list[Supervisor]:
    return [Supervisor(f"s{number}", count, capacity) for number, count in enumerate(held)]


@given(FLEETS, st.integers(0, 200))
def test_all_that_fits_is_spread_and_evenly(fleet: list[Supervisor], wanted: int) -> None:
    goal = targets(wanted, fleet)
    assert set(goal) == {one.id for one in fleet}
    assert sum(goal.values()) == min(wanted, sum(one.capacity for one in fleet))
    assert all(0 <= goal[one.id] <= one.capacity for one in fleet)
    roomy = [goal[one.id] for one in fleet if goal[one.id] < one.capacity]
    if roomy:
        assert max(goal.values()) <= max(roomy) + 1
        assert max(roomy) - min(roomy) <= 1


@given(FLEETS, st.integers(0, 60))
def test_rounds_of_plans_end_where_the_targets_are(fleet: list[Supervisor], new: int) -> None:
    held = {one.id: one.held for one in fleet}
    wanted = sum(held.values()) + new
    goal: dict[str, int] = {}
    for _ in range(3):  # one to give back, one to take, one to see that it rests
        fleet = [replace(one, held=held[one.id]) for one in fleet]
        goal = targets(wanted, fleet)
        free = wanted - sum(held.values())
        for one in fleet:
            move = plan(one.id, wanted, free, fleet)
            assert move.take == 0 or move.release == 0
            assert 0 <= move.release <= one.held
            held[one.id] -= move.release
        # The database gives each stream to one of them alone.
        free = wanted - sum(held.values())
        for one in fleet:
            taken = min(plan(one.id, wanted, free, fleet).take, free)
            held[one.id] += taken
            free -= taken
    assert held == goal
    fleet = [replace(one, held=held[one.id]) for one in fleet]
    free = wanted - sum(held.values())
    assert {plan(one.id, wanted, free, fleet) for one in fleet} == {Move()}


def test_an_even_spread_stays_as_it_is() -> None:
    fleet = even(2, 3, 3)
    assert [plan(one.id, 8, 0, fleet) for one in fleet] == [Move()] * 3


def test_one_that_joins_is_given_its_share_and_no_more() -> None:
    fleet = even(8, 8, 0)
    assert [plan(one.id, 16, 0, fleet) for one in fleet] == [
        Move(release=2),
        Move(release=3),
        Move(),
    ]


def test_what_is_free_goes_first_to_one_that_joins() -> None:
    fleet = even(4, 4, 0)
    assert plan("s0", 12, 4, fleet) == Move()
    assert plan("s2", 12, 4, fleet) == Move(take=4)


def test_the_streams_of_a_dead_one_are_shared() -> None:
    fleet = even(5, 5)
    assert [plan(one.id, 15, 5, fleet) for one in fleet] == [Move(take=3), Move(take=2)]


def test_a_supervisor_that_is_not_counted_does_nothing() -> None:
    assert plan("unknown", 5, 5, even(0)) == Move()
    assert plan("unknown", 5, 5, []) == Move()


def test_a_capacity_that_shrank_is_kept_although_nobody_has_room() -> None:
    fleet = [Supervisor("s0", 10, 6)]
    assert plan("s0", 10, 0, fleet) == Move(release=4)
