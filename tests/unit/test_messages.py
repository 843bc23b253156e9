from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import StoreError
from moderation.tasks.config import broker_priority
from moderation.tasks.handle import handle
from moderation.tasks.messages import (
    DELIVER,
    IMAGE,
    INFER,
    LIGHT,
    READ,
    SCORE,
    VIDEO,
    JobMessage,
    UnknownMessageError,
)


@given(st.sampled_from([IMAGE, VIDEO, READ, SCORE, DELIVER]), st.text(min_size=1))
def test_a_message_survives_json(kind: str, job_id: str) -> None:
    message = JobMessage(kind, job_id)
    assert JobMessage.from_dict(json.loads(json.dumps(message.to_dict()))) == message


def test_a_message_carries_ids_alone() -> None:
    assert JobMessage(IMAGE, "job_1").to_dict() == {
        "schema_version": 1,
        "kind": "image",
        "job_id": "job_1",
    }


def test_kinds_go_to_their_queues() -> None:
    assert JobMessage(IMAGE, "j").queue == INFER
    assert JobMessage(SCORE, "j/0").queue == INFER
    assert {JobMessage(kind, "j").queue for kind in (DELIVER, VIDEO, READ)} == {LIGHT}
    with pytest.raises(UnknownMessageError, match="hologram"):
        _ = JobMessage("hologram", "j").queue


@pytest.mark.parametrize(
    "data",
    [
        None,
        "job_1",
        [],
        {},
        {"schema_version": 2, "kind": "image", "job_id": "j"},
        {"schema_version": "1", "kind": "image", "job_id": "j"},
        {"schema_version": True, "kind": "image", "job_id": "j"},
        {"schema_version": 1, "kind": "hologram", "job_id": "j"},
        {"schema_version": 1, "kind": ["image"], "job_id": "j"},
        {"schema_version": 1, "kind": "image", "job_id": ""},
        {"schema_version": 1, "kind": "image", "job_id": 7},
    ],
)
def test_anything_else_is_unknown_and_left_to_the_sweeper(
    data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnknownMessageError):
        JobMessage.from_dict(data)
    ran: list[str] = []
    with caplog.at_level(logging.WARNING):
        handle(data, {IMAGE: ran.append, DELIVER: ran.append})
    assert ran == []
    assert "left to the sweeper" in caplog.text


def test_a_newer_producer_may_add_hints() -> None:
    data = {"schema_version": 1, "kind": "image", "job_id": "j", "trace": "t"}
    assert JobMessage.from_dict(data) == JobMessage(IMAGE, "j")


def test_a_message_of_another_worker_is_left_to_the_sweeper(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        handle(JobMessage(DELIVER, "j").to_dict(), {IMAGE: lambda job_id: None})
    assert "does not take 'deliver'" in caplog.text


def test_a_failing_store_is_logged_and_the_message_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(job_id: str) -> None:
        raise StoreError("the database is away")

    with caplog.at_level(logging.WARNING):
        handle(JobMessage(IMAGE, "job_7").to_dict(), {IMAGE: fail})
    assert "job_7 left to the sweeper: the database is away" in caplog.text


@given(st.integers(), st.integers())
def test_more_urgent_never_comes_later(a: int, b: int) -> None:
    if a >= b:
        assert broker_priority(a) <= broker_priority(b)
    assert 0 <= broker_priority(a) <= 9


def test_usual_and_most_urgent() -> None:
    assert (broker_priority(0), broker_priority(9)) == (9, 0)
