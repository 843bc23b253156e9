"""Submissions, verdicts and results for the store's tests."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np

from moderation.packed_scores import PackedScores
from moderation.policy import Policy, Rule
from moderation.store.records import Claim, Finished, NewItem, NewMedia
from moderation.types import Coverage, Decision, Reason, Status, Verdict

T = TypeVar("T")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy(
    id="default",
    version=1,
    rules=(Rule(label="porn.explicit", review_at=0.5, block_at=0.9),),
)
MODELS = ("b@2", "a@1")
LABELS = ("porn.explicit", "violence.gore")


def new_item(content: object = "picture", **changes: Any) -> NewItem:
    """A submission of the bytes that `content` names."""
    sha256 = hashlib.sha256(repr(content).encode()).hexdigest()
    media = NewMedia(sha256=sha256, size=1234, format="jpeg", blob_key=f"default/{sha256}")
    return NewItem(**({"tenant": "default", "media": media, "policy": POLICY} | changes))


def verdict_for(claim: Claim, decision: Decision = Decision.REVIEW, **changes: Any) -> Verdict:
    reasons = []
    if decision is not Decision.PASS:
        reasons = [
            Reason(
                category="porn",
                label="porn.explicit",
                score=0.6,
                decision=decision,
                threshold=0.5,
                model="a@1",
            )
        ]
    values: dict[str, Any] = {
        "id": claim.item_id,
        "job_id": claim.job_id,
        "source": claim.source,
        "data_id": claim.data_id,
        "status": Status.DONE,
        "decision": decision,
        "reasons": reasons,
        "scores": {"porn.explicit": 0.6, "violence.gore": 0.1},
        "coverage": Coverage(frames_total=1, frames_scored=1, complete=True),
        "policy": claim.policy.ref,
        "models": list(MODELS),
        "device": "cpu",
        "timings_ms": {"total": 12.5},
    }
    return Verdict(**(values | changes))


def result_for(claim: Claim, decision: Decision = Decision.REVIEW, **changes: Any) -> Finished:
    """A verdict with the scores of two views and an embedding."""
    scores = PackedScores(
        labels=LABELS,
        models=MODELS,
        values=np.array([[0.6, 0.1], [0.25, 0.0]], np.float64),
        times=np.array([0.0, 0.0], np.float64),
    )
    return Finished(
        verdict=verdict_for(claim, decision, **changes),
        scores=scores,
        embedding=np.linspace(-1, 1, 1280, dtype=np.float16),
        encoder="lite0@1",
        pdq="ab" * 32,
        width=640,
        height=480,
    )


def together(call: Callable[[int], T], threads: int = 8) -> list[T]:
    """What `call(n)` returns in each of the threads, all started at once. Errors are raised."""
    barrier = threading.Barrier(threads)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(timeout=30)
            results[number] = call(number)
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's thread
            errors.append(error)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(timeout=120)
    if errors:
        raise errors[0]
    return [results[number] for number in range(threads)]
