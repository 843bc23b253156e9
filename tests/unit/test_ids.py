from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from moderation.ids import first_id, new_id


def test_ids_are_uuid7_and_sort_by_time() -> None:
    prefix, _, hexadecimal = new_id("item").partition("_")
    value = uuid.UUID(hexadecimal)
    assert prefix == "item"
    assert value.variant == uuid.RFC_4122
    assert value.version == 7


def test_ids_do_not_repeat() -> None:
    assert len({new_id("x") for _ in range(10_000)}) == 10_000


def test_ids_are_told_apart_by_a_time() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = new_id("item")
    after = datetime.now(UTC) + timedelta(milliseconds=2)
    assert first_id("item", before) < made < first_id("item", after)
    assert first_id("item", datetime.fromtimestamp(0, UTC)) == "item_000000000000"
