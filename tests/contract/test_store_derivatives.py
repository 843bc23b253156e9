"""Derivatives on both databases: wanted once, made once, made again when their maker dies."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from moderation.errors import LimitError, NotFoundError
from moderation.store import derivatives, jobs
from moderation.store.derivatives import (
    EXHAUSTED,
    RETRY_S,
    REVIVED_S,
    DerivativeState,
    Made,
)
from moderation.store.engine import Database
from tests.contract.store_data import NOW, new_item, together

MADE = Made("derived/default/media_x/proxy.mp4", "video/mp4", 77)
NAME = "frame-1000.webp"


@pytest.fixture
def item_id(db: Database) -> str:
    return jobs.submit(db, new_item("film"), now=NOW).item_id


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_whoever_asks_second_gets_the_same_row(db: Database, item_id: str) -> None:
    row, first = derivatives.want(db, "default", item_id, NAME, now=NOW)
    again, second = derivatives.want(db, "default", item_id, NAME, now=NOW)
    assert (first, second) == (True, False)
    assert again == row
    assert (row.state, row.attempt) == (DerivativeState.PENDING, 0)
    twin = jobs.submit(db, new_item("film"), now=NOW).item_id
    assert derivatives.want(db, "default", twin, NAME)[0].id == row.id, "one for the same bytes"


def test_two_who_ask_at_once_are_one(db: Database, item_id: str) -> None:
    answers = together(lambda _: derivatives.want(db, "default", item_id, NAME), threads=4)
    assert len({row.id for row, _ in answers}) == 1
    assert sum(first for _, first in answers) == 1


def test_of_what_is_not_ones_own_there_is_none(db: Database, item_id: str) -> None:
    derivatives.want(db, "default", item_id, NAME)
    for tenant, other in (("other", item_id), ("default", "item_" + "0" * 32)):
        with pytest.raises(NotFoundError):
            derivatives.want(db, tenant, other, NAME)


def test_there_is_a_bound(db: Database, item_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derivatives, "MAX_DERIVATIVES", 2)
    for name in ("a", "b"):
        derivatives.want(db, "default", item_id, name)
    with pytest.raises(LimitError) as raised:
        derivatives.want(db, "default", item_id, "c")
    assert raised.value.code == "too_many_derivatives"
    derivatives.want(db, "default", item_id, "a")  # those that are there stay


def test_it_is_made_once(db: Database, item_id: str) -> None:
    wanted, _ = derivatives.want(db, "default", item_id, NAME, now=NOW)
    claimed = derivatives.claim(db, lease_s=30, now=after(1))
    assert claimed is not None
    row, source = claimed
    assert (row.id, row.state, row.attempt) == (wanted.id, DerivativeState.MAKING, 1)
    assert (source.kind, source.blob_key) == ("image", new_item("film").media.blob_key)
    assert derivatives.claim(db, lease_s=30, now=after(2)) is None
    assert derivatives.finish(db, row, MADE, now=NOW)
    ready = derivatives.get(db, row.id)
    assert ready is not None
    assert (ready.state, ready.blob_key, ready.size) == (DerivativeState.READY, MADE.blob_key, 77)
    assert not derivatives.finish(db, row, MADE), "it has ended"


def test_many_who_are_free_share_the_work(db: Database, item_id: str) -> None:
    names = [f"frame-{i}.webp" for i in range(4)]
    for name in names:
        derivatives.want(db, "default", item_id, name)
    claimed: list[str] = []

    def work(_number: int) -> None:
        while found := derivatives.claim(db, lease_s=30):
            claimed.append(found[0].name)

    together(work, threads=3)
    # A rival's lock may send one away early: whoever looks next finds the rest.
    work(0)
    assert sorted(claimed) == names


def test_the_oldest_comes_first_and_a_film_can_wait(db: Database, item_id: str) -> None:
    derivatives.want(db, "default", item_id, "proxy.mp4", now=NOW)
    derivatives.want(db, "default", item_id, NAME, now=after(1))
    one = derivatives.claim(db, lease_s=30, without="proxy.mp4", now=after(2))
    assert one is not None
    assert one[0].name == NAME
    assert derivatives.claim(db, lease_s=30, without="proxy.mp4", now=after(2)) is None
    other = derivatives.claim(db, lease_s=30, now=after(2))
    assert other is not None
    assert other[0].name == "proxy.mp4"


def test_one_that_lost_its_maker_is_made_by_another(db: Database, item_id: str) -> None:
    derivatives.want(db, "default", item_id, NAME, now=NOW)
    first = derivatives.claim(db, lease_s=30, now=NOW)
    assert first is not None
    assert derivatives.renew(db, first[0], now=after(20))
    assert derivatives.claim(db, lease_s=30, now=after(40)) is None
    second = derivatives.claim(db, lease_s=30, now=after(51))
    assert second is not None
    assert second[0].attempt == 2
    assert not derivatives.renew(db, first[0]), "it is the other's now"
    assert not derivatives.finish(db, first[0], MADE)
    assert derivatives.finish(db, second[0], MADE)


def test_our_own_failure_is_tried_again_a_little_later(db: Database, item_id: str) -> None:
    derivatives.want(db, "default", item_id, NAME, now=NOW)
    first = derivatives.claim(db, lease_s=30, now=NOW)
    assert first is not None
    derivatives.release(db, first[0], now=NOW)
    assert derivatives.claim(db, lease_s=30, now=after(RETRY_S - 1)) is None
    again = derivatives.claim(db, lease_s=30, now=after(RETRY_S))
    assert again is not None
    assert again[0].attempt == 2


def test_what_our_side_failed_at_each_time_is_tried_anew_for_who_wants_it(
    db: Database, item_id: str
) -> None:
    derivatives.want(db, "default", item_id, NAME, now=NOW)
    claimed = derivatives.claim(db, lease_s=30, now=NOW)
    assert claimed is not None
    assert derivatives.fail(db, claimed[0], f"{EXHAUSTED}: it was tried 5 times", now=NOW)
    soon, first = derivatives.want(db, "default", item_id, NAME, now=after(REVIVED_S - 1))
    assert (soon.state, first) == (DerivativeState.FAILED, False)
    later, first = derivatives.want(db, "default", item_id, NAME, now=after(REVIVED_S))
    assert (later.state, later.attempt, later.error, first) == (
        DerivativeState.PENDING,
        0,
        None,
        True,
    )
    _, first = derivatives.want(db, "default", item_id, NAME, now=after(REVIVED_S))
    assert not first
    assert derivatives.claim(db, lease_s=30, now=after(REVIVED_S)) is not None


def test_what_cannot_be_made_says_why(db: Database, item_id: str) -> None:
    derivatives.want(db, "default", item_id, NAME)
    claimed = derivatives.claim(db, lease_s=30)
    assert claimed is not None
    assert derivatives.fail(db, claimed[0], "corrupt: no frame can be read")
    row = derivatives.get(db, claimed[0].id)
    assert row is not None
    assert row.state.ended
    assert row.error == "corrupt: no frame can be read"
    assert derivatives.claim(db, lease_s=30) is None
