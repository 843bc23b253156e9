"""A torch worker takes jobs from a real Redis through Celery, and says what OpenVINO's says."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.verdicts import agreement, drift
from moderation.errors import WeightsError
from moderation.settings import load_settings
from moderation.types import Decision, Status
from tests.fakes.queued import answered, dividing, pictures
from tests.servers import Redis

pytestmark = [pytest.mark.torch, pytest.mark.weights, pytest.mark.slow]

JOBS = 40
AGREE = 0.995
PATIENCE_S = 300.0
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("MODERATION_")}


def test_jobs_have_the_verdicts_of_an_openvino_worker(tmp_path: Path, redis_server: Redis) -> None:
    pytest.importorskip("torch", reason="torch is not installed: `make test-torch`")
    bodies = pictures(JOBS)
    assert len(set(bodies)) == JOBS
    settings = load_settings(home=tmp_path / "here", backend="openvino", device="cpu")
    try:
        policy = dividing(bodies, settings)
    except WeightsError as error:
        pytest.skip(str(error))

    def run(backend: str, database: int) -> list:
        found = answered(
            bodies,
            policy,
            home=tmp_path / backend,
            broker=redis_server.url.replace("/0", f"/{database}"),
            words=("--backend", backend, "--device", "cpu"),
            env=CLEAN,
            timeout_s=PATIENCE_S,
        )
        print(f"{backend}: {JOBS} jobs in {found.seconds:.1f} s")
        return list(found.verdicts)

    ours, theirs = run("torch", 11), run("openvino", 12)
    assert len(ours) == len(theirs) == JOBS
    assert {verdict.status for verdict in ours} == {Status.DONE}
    assert {verdict.device for verdict in ours} != {verdict.device for verdict in theirs}
    decided = Counter(verdict.decision for verdict in theirs)
    assert min(decided[one] for one in Decision) >= JOBS // 20, "they would agree on anything"
    print(f"decisions {dict(decided)}, largest difference of a score {drift(ours, theirs):.1e}")
    assert agreement(ours, theirs) >= AGREE
    assert drift(ours, theirs) < 1e-3
