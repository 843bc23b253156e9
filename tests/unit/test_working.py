from __future__ import annotations

import threading

import pytest

from moderation.tasks.working import Working
from tests.contract.store_data import together


def test_what_is_in_hand_has_a_name_until_it_ends() -> None:
    working = Working()
    with working.on("job_1"), working.on("job_2/3"), working.on("job_1"):
        assert working.names() == {"job_1", "job_2/3"}
    assert working.names() == frozenset()
    with pytest.raises(ZeroDivisionError), working.on("job_1"):
        1 / 0  # noqa: B018
    assert working.names() == frozenset()


def test_nobody_chooses_what_another_has_in_hand() -> None:
    working = Working()
    wanted = [f"job/{number}" for number in range(8)]
    all_chose = threading.Barrier(8)

    def choose(busy: frozenset[str]) -> str | None:
        return next((name for name in wanted if name not in busy), None)

    with working.chosen(choose) as first, working.chosen(choose) as second:
        assert (first, second) == ("job/0", "job/1")

    def work(_number: int) -> str | None:
        with working.chosen(choose) as name:
            all_chose.wait(10)
            return name

    assert sorted(map(str, together(work))) == wanted
    wanted.clear()
    with working.chosen(choose) as none:
        assert none is None
    assert working.names() == frozenset()
