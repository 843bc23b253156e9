"""What other rules would have decided, of stored scores: python -m benchmarks.whatif [--items N]

Fills SQLite, and PostgreSQL where it is installed, with judged pictures and films (a tenth, of 120
moments each, a third of them with something to see), asks a real gateway what would change, and
holds its counts against deciding every medium anew, one by one, by the code that judges uploads.
Prints what a caller waits for, and what deciding one by one takes, without the database.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert

from benchmarks.machine import machine
from benchmarks.server import serving
from moderation.aggregate import Frame, aggregate
from moderation.analyse import Analysis, coverage_of, to_verdict
from moderation.packed_scores import PackedScores, pack_film, pack_picture
from moderation.policy import Policy, decide, load_policies, summarise
from moderation.store.codec import dump_verdict
from moderation.store.engine import Database, migrate, open_database
from moderation.store.policies import keep_policy
from moderation.store.records import DEFAULT_TENANT
from moderation.store.score_rows import dump_scores
from moderation.store.tables import item, job, media, scores, verdict
from moderation.types import (
    Decision,
    DecodedImage,
    Detection,
    LabelScore,
    MediaInfo,
    MediaScores,
    View,
    ViewScores,
)
from tests import servers

TIMES = 9
MOMENTS = 120
GAP_S = 6.0
MODELS = ("scenes@7", "weapons@3")
KEY = "mod_benchmark_0123456789abcdef0123456789abcdef"

Medium = MediaScores | list[Frame]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--films", type=float, default=0.1, help="part of the items, 0 to 1")
    asked = parser.parse_args()
    print(machine())
    now = load_policies()["default"]
    then = stricter(now)
    chance = random.Random(7)  # noqa: S311
    labels = [rule.label for rule in now.rules if not rule.optional]
    made = [one(chance, labels, asked.films) for _ in range(asked.items)]
    began = time.perf_counter()
    wanted = Counter((say(medium, now), say(medium, then)) for medium in made)
    alone = time.perf_counter() - began
    changed = sum(count for (a, b), count in wanted.items() if a is not b)
    print(f"{asked.items:,} items, {asked.films:.0%} of them films of {MOMENTS} moments")
    print(f"decided one by one, twice each, without a database: {alone:.2f} s; {changed:,} differ")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, database in databases(home):
            with database as url:
                measure(name, url, home / name, made, now, then, wanted)
    return 0


def stricter(policy: Policy) -> Policy:
    """Every threshold a tenth of its distance to 0 lower."""
    rules = tuple(
        rule.model_copy(
            update={
                name: None if value is None else value * 0.9
                for name, value in (("review_at", rule.review_at), ("block_at", rule.block_at))
            }
        )
        for rule in policy.rules
    )
    return policy.model_copy(update={"rules": rules})


def one(chance: random.Random, labels: list[str], films: float) -> Medium:
    def score(*, hot: bool) -> float:
        return chance.random() ** (0.3 if hot else 6)

    if chance.random() >= films:
        views = []
        for _ in range(chance.choice([1, 1, 1, 3])):
            said = {label: score(hot=chance.random() < 0.03) for label in labels}
            boxes = tuple(
                Detection("violence.weapon", None, (0.1, 0.1, 0.4, 0.4), chance.random())
                for _ in range(chance.choice([0, 0, 0, 2]))
            )
            views.append(ViewScores(said, dict.fromkeys(said, "m@1"), detections=boxes))
        return MediaScores(tuple(View(frame=i) for i in range(len(views))), tuple(views))
    hot = chance.sample(labels, 2) if chance.random() < 1 / 3 else []
    frames = []
    for moment in range(MOMENTS):
        shown = moment % 40 < 15
        peaks = {
            label: LabelScore(
                label,
                score(hot=shown and label in hot),
                "m@1",
                boxes=((0.1, 0.1, 0.4, 0.4, chance.random()),) if shown and label in hot else (),
            )
            for label in labels
        }
        frames.append(Frame(moment * 5.0, peaks, picture=f"{chance.getrandbits(256):064x}"))
    return frames


def say(medium: Medium, policy: Policy) -> Decision:
    """As an upload is judged."""
    return judged(medium, policy).outcome.decision


def judged(medium: Medium, policy: Policy) -> Analysis:
    if isinstance(medium, list):
        end_s = MOMENTS * 5.0
        line = aggregate(medium, policy, duration_s=end_s, frames_total=MOMENTS, gap_s=GAP_S)
        return Analysis(line.outcome, line.peaks, line.coverage, None, None, None, {})
    peaks = summarise(medium)
    info = MediaInfo("jpeg", 640, 480, 1, 1, 1234)
    coverage = coverage_of(DecodedImage(info, {}, medium.views))
    return Analysis(decide(peaks, policy, coverage), peaks, coverage, info, medium, None, {})


def packed(medium: Medium, analysis: Analysis) -> PackedScores | None:
    complete = analysis.coverage.complete
    if isinstance(medium, list):
        moments = [(one.time_s, one.peaks, one.picture) for one in medium]
        return pack_film(moments, MODELS, complete=complete, gap_s=GAP_S)
    return pack_picture(medium, MODELS, complete=complete)


def databases(home: Path) -> Iterator[tuple[str, Any]]:
    @contextmanager
    def sqlite() -> Iterator[str]:
        yield f"sqlite:///{home / 'whatif.db'}"

    @contextmanager
    def postgres() -> Iterator[str]:
        with servers.postgres() as server:
            server.sql("CREATE DATABASE whatif")
            yield server.url("whatif")

    yield "SQLite", sqlite()
    yield "PostgreSQL", postgres()


def fill(db: Database, made: list[Medium], policy: Policy) -> None:
    start = datetime.now(UTC) - timedelta(days=1)
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("media", "item", "job", "scores", "verdict")
    }
    with db.begin() as connection:
        row_id = keep_policy(connection, DEFAULT_TENANT, policy, start)
    for number, medium in enumerate(made):
        analysis = judged(medium, policy)
        found = packed(medium, analysis)
        assert found is not None
        when = start + timedelta(seconds=number)
        ids = {name: f"{name}_{number:032x}" for name in ("media", "item", "job")}
        common = {"tenant": DEFAULT_TENANT, "created": when}
        told = to_verdict(analysis, id=ids["item"], policy=policy, models=MODELS, device="cpu")
        rows["media"].append(
            common
            | {
                "id": ids["media"],
                "sha256": f"{number:064x}",
                "kind": "video" if isinstance(medium, list) else "image",
                "format": "x",
                "size": 1234,
                "blob_key": f"default/{number}",
                "refs": 1,
            }
        )
        rows["item"].append(
            common
            | {
                "id": ids["item"],
                "media_id": ids["media"],
                "job_id": ids["job"],
                "current_verdict": number + 1,
                "decision": told.decision.value,
                "status": told.status.value,
            }
        )
        rows["job"].append(
            common
            | {
                "id": ids["job"],
                "item_id": ids["item"],
                "kind": "image",
                "state": "done",
                "attempt": 1,
                "priority": 0,
                "policy_version": row_id,
                "cancel_requested": False,
                "queued": when,
                "updated": when,
            }
        )
        rows["scores"].append(
            common | {"job_id": ids["job"], "media_id": ids["media"], **dump_scores(found)}
        )
        rows["verdict"].append(
            common
            | {
                "id": number + 1,
                "item_id": ids["item"],
                "job_id": ids["job"],
                "policy_version": row_id,
                "models": ",".join(MODELS),
                "status": told.status.value,
                "decision": told.decision.value,
                "decided_by": "policy",
                "body": dump_verdict(told),
            }
        )
    tables = {"media": media, "item": item, "job": job, "scores": scores, "verdict": verdict}
    for name, table in tables.items():
        for at in range(0, len(made), 2000):
            with db.begin() as connection:
                connection.execute(insert(table), rows[name][at : at + 2000])
    with db.begin() as connection:
        connection.exec_driver_sql("ANALYZE")


def measure(
    name: str,
    url: str,
    home: Path,
    made: list[Medium],
    now: Policy,
    then: Policy,
    wanted: Counter[tuple[Decision, Decision]],
) -> None:
    migrate(url)
    db = open_database(url)
    fill(db, made, now)
    db.close()
    settings = {
        "MODERATION_DATABASE_URL": url,
        "MODERATION_BACKEND": "fake",
        "MODERATION_BOOTSTRAP_KEY": KEY,
    }
    body = {
        "draft": {"rules": [rule.model_dump(mode="json") for rule in then.rules]},
        "last": len(made),
    }
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        serving(home, settings) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=120) as client,
    ):
        took = []
        for _ in range(TIMES):
            began = time.perf_counter()
            answer = client.post("/v1/policies/default/what-if", json=body, headers=headers)
            took.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
    told = answer.json()
    moves = {(Decision(x["now"]), Decision(x["then"])): x["items"] for x in told["moves"]}
    differ = {way: count for way, count in wanted.items() if way[0] is not way[1]}
    alike = moves == differ and told["considered"] == told["checked"] == told["alike"] == len(made)
    print(
        f"{name:11} what-if of {told['considered']:,} items: "
        f"median {statistics.median(took):.2f} s, longest {max(took):.2f} s; "
        f"{told['changed']:,} differ, "
        f"{'as one by one' if alike else 'NOT as one by one'}"
    )
    assert alike


if __name__ == "__main__":
    sys.exit(main())
