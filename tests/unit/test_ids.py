from __future__ import annotations

import uuid

from moderation.ids import new_id


def test_ids_are_uuid7_and_sort_by_time() -> None:
    prefix, _, hexadecimal = new_id("item").partition("_")
    value = uuid.UUID(hexadecimal)
    assert prefix == "item"
    assert value.variant == uuid.RFC_4122
    assert value.version == 7


def test_ids_do_not_repeat() -> None:
    assert len({new_id("x") for _ in range(10_000)}) == 10_000
