"""The console's pages over a full database: python -m benchmarks.console [--items N]

Fills SQLite, and PostgreSQL where it is installed, with items of 35 days of which half wait for a
person, then asks a real gateway for the queue under every filter, for insight, and decides one item
after the other. Prints the median and the 95th percentile of what a browser waits for; pictures are
not made.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, insert, text

from benchmarks.machine import machine
from benchmarks.server import serving
from moderation.ids import new_id
from moderation.packed_scores import PackedScores
from moderation.policy import Policy, load_policies
from moderation.store import accounts
from moderation.store.codec import dump_verdict, load_verdict
from moderation.store.ending import OpenJob, store_results
from moderation.store.engine import Database, migrate, open_database
from moderation.store.policies import keep_policy
from moderation.store.records import Finished, JobState
from moderation.store.review_entry import AUDIT_RANK, source_key
from moderation.store.review_records import Role
from moderation.store.review_tables import review
from moderation.store.tables import item, job, media, verdict
from moderation.types import Coverage, Decision, LabelScore, Reason, Status, Verdict
from tests import servers

PASSWORD = "only for benchmarks"  # noqa: S105
LABELS = ("violence.weapon", "violence.fire", "porn.explicit", "smoking.smoking", "violence.fight")
BATCH = 5000
TIMES = 25
SPAN = timedelta(days=35)


def _day(ago: int) -> str:
    return f"{datetime.now(UTC) - timedelta(days=ago):%Y-%m-%d}"


FILTERS = {
    "the queue": "",
    "label": "label=porn.explicit",
    "label that nothing has": "label=violence.riot",
    "score range": "min_score=0.7&max_score=0.75",
    "picture or film": "kind=video",
    "source": "source=feed-7",
    "source that is not there": "source=nowhere",
    "data_id": "data_id=upload-777",
    "policy": "policy=default@4",
    "policy that is not there": "policy=nobodys@1",
    "sha256": f"sha256={'0' * 64}",
    "time": f"since={_day(20)}&until={_day(19)}",
    "time that is to come": "since=2099-01-01",
    "score that nothing has": "min_score=1",
    "escalated": "escalated=true",
    "audits": "audit=true",
    "no audits": "audit=false",
    "label, source, score": "label=violence.fire&source=feed-3&min_score=0.9",
    "decided": "state=decided",
    "decided, blocked": "state=decided&decision=block",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    asked = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, database in databases(home):
            with database as url:
                measure(name, url, home / name, asked.items)
    return 0


def databases(home: Path) -> Iterator[tuple[str, Any]]:
    @contextmanager
    def sqlite() -> Iterator[str]:
        yield f"sqlite:///{home / 'console.db'}"

    @contextmanager
    def postgres() -> Iterator[str]:
        with servers.postgres() as server:
            server.sql("CREATE DATABASE console")
            yield server.url("console")

    yield "SQLite", sqlite()
    yield "PostgreSQL", postgres()


def measure(name: str, url: str, home: Path, items: int) -> None:
    migrate(url)
    db = open_database(url)
    fill(db, items)
    accounts.create(db, tenant="default", name="anna", role=Role.LEAD, password=PASSWORD)
    db.close()
    print(f"\n{name}, {items:,} items\n{'':34}median      p95")
    settings = {"MODERATION_DATABASE_URL": url, "MODERATION_BACKEND": "fake"}
    with (
        serving(home, settings) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client,
    ):
        form = {"name": "anna", "password": PASSWORD}
        assert client.post("/console/sign-in", data=form).status_code == 303
        for what, query in FILTERS.items():
            row(what, lambda query=query: page(client, f"/console/queue?{query}"))  # type: ignore[misc]
        for days in (7, 90):
            address = f"/console/insight?days={days}"
            row(f"insight, {days} days", lambda at=address: page(client, at))  # type: ignore[misc]
        decide(client)


def decide(client: httpx.Client) -> None:
    """From the decision on one item to the page of the next, as a browser goes."""
    html = page(client, "/console/queue")
    token = re.search(r'name="csrf" value="(\w+)"', html)
    assert token is not None
    csrf = {"csrf": token[1]}
    at = client.post("/console/next", data=csrf, follow_redirects=True).url.path
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        answer = client.post(
            f"{at}/decision", data=csrf | {"action": "pass"}, follow_redirects=True
        )
        took.append(time.perf_counter() - began)
        answer.raise_for_status()
        assert answer.url.path != at
        at = answer.url.path
        client.post(f"{at}/ahead", data=csrf).raise_for_status()
    tell("item to next item", took)


def row(what: str, act: Callable[[], object]) -> None:
    act()
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    tell(what, took)


def tell(what: str, took: list[float]) -> None:
    p95 = statistics.quantiles(took, n=20)[-1]
    print(f"{what:30}{1000 * statistics.median(took):7.1f} ms{1000 * p95:7.1f} ms", flush=True)


def page(client: httpx.Client, path: str) -> str:
    answer = client.get(path)
    answer.raise_for_status()
    return answer.text


def fill(db: Database, items: int) -> None:
    """Half of them wait, three in ten were decided, and two in ten passed by themselves, of which
    every tenth waits for an audit."""
    chance = random.Random(7)  # noqa: S311
    policy = load_policies()["default"]
    begun = datetime.now(UTC) - SPAN
    with db.begin() as connection:
        policy_id = keep_policy(connection, "default", policy, begun)
    for start in range(0, items, BATCH):
        numbers = range(start, min(items, start + BATCH))
        rows = [
            one(chance, number, policy, policy_id, begun + SPAN * (number / items))
            for number in numbers
        ]
        with db.begin() as connection:
            for table, name in (
                (media, "media"),
                (item, "item"),
                (job, "job"),
                (verdict, "verdict"),
                (review, "review"),
            ):
                made = [row[name] for row in rows if name in row]
                if made:
                    connection.execute(insert(table), made)
            for row in rows:
                keep_scores(connection, row, chance)
        if sys.stderr.isatty():
            print(f"\r{numbers.stop:,} items", end="", file=sys.stderr)
    with db.begin() as connection:
        if db.dialect == "postgresql":
            query = "SELECT setval(pg_get_serial_sequence('verdict', 'id'), :last)"
            connection.execute(text(query), {"last": items})
        # As a database that is in use does by itself, sooner or later.
        connection.execute(text("ANALYZE"))


def one(
    chance: random.Random, number: int, policy: Policy, policy_id: str, created: datetime
) -> dict[str, dict[str, Any]]:
    """The rows of one item, by table."""
    media_id, item_id, job_id = new_id("media"), new_id("item"), new_id("job")
    label, score = chance.choice(LABELS), round(chance.random(), 4)
    kind = "video" if chance.random() < 0.2 else "image"
    what = chance.choices(("open", "decided", None), (5, 3, 2))[0]
    decision = {"open": Decision.REVIEW, "decided": chance.choice([Decision.BLOCK, Decision.PASS])}
    told = decision.get(what or "", Decision.PASS)
    reason = Reason(
        category=label.partition(".")[0], label=label, score=score, decision=told, threshold=0.5
    )
    body = Verdict(
        id=item_id,
        job_id=job_id,
        source=f"feed-{number % 50}",
        data_id=f"upload-{number}",
        status=Status.DONE,
        decision=told,
        decided_by="person" if what == "decided" else "policy",
        reasons=[] if told is Decision.PASS else [reason],
        scores={name: score if name == label else 0.1 for name in LABELS},
        coverage=Coverage(frames_total=1, frames_scored=1, complete=True),
        policy=policy.ref,
        models=["scenes@2"],
    )
    base = {"tenant": "default", "created": created}
    rows: dict[str, dict[str, Any]] = {
        "media": base
        | {"id": media_id, "sha256": f"{number:064x}", "kind": kind, "format": "jpeg"}
        | {"size": 100_000, "width": 1280, "height": 720, "blob_key": f"default/{number}"}
        | {"duration_s": 12.0 if kind == "video" else None, "refs": 1},
        "item": base
        | {"id": item_id, "media_id": media_id, "job_id": job_id, "current_verdict": number + 1}
        | {"decision": told.value, "status": "done", "source": body.source}
        | {"data_id": body.data_id},
        "job": base
        | {"id": job_id, "item_id": item_id, "kind": kind, "state": "done", "attempt": 1}
        | {"priority": 0, "policy_version": policy_id, "cancel_requested": False}
        | {"queued": created, "updated": created, "ended": created},
        "verdict": base
        | {"id": number + 1, "item_id": item_id, "job_id": job_id, "policy_version": policy_id}
        | {"models": "scenes@2", "status": "done", "decision": told.value}
        | {"decided_by": body.decided_by, "body": dump_verdict(body)},
    }
    if what is not None:
        rows["review"] = base | {
            "item_id": item_id,
            "state": what,
            "rank": -chance.choices((0, 5), (9, 1))[0],
            "due": created - timedelta(hours=8 * score),
            "label": label,
            "score": score,
            "source_key": source_key(body.source),
            "escalated": chance.random() < 0.01,
            "audit": False,
            "updated": created,
        }
    elif chance.random() < 0.1:
        rows["review"] = base | {"item_id": item_id, "state": "open", "rank": AUDIT_RANK}
        rows["review"] |= {"due": created, "label": None, "score": None, "escalated": False}
        rows["review"] |= {"source_key": source_key(body.source), "audit": True}
        rows["review"] |= {"updated": created}
    return rows


def keep_scores(
    connection: Connection, rows: dict[str, dict[str, Any]], chance: random.Random
) -> None:
    """A row of scores: of a picture one view, of a film a minute."""
    made, job_row, media_row = rows["verdict"], rows["job"], rows["media"]
    held = OpenJob(
        id=job_row["id"],
        item_id=job_row["item_id"],
        tenant="default",
        media_id=media_row["id"],
        state=JobState.DONE,
        attempt=1,
        cancel_requested=False,
        policy_version=job_row["policy_version"],
        callback_url=None,
        source=None,
        data_id=None,
    )
    moments = [
        (float(second), {x: LabelScore(x, chance.random() ** 4, "scenes@2") for x in LABELS})
        for second in range(60 if media_row["kind"] == "video" else 1)
    ]
    verdict_ = load_verdict(made["body"])
    packed = PackedScores.of(moments, verdict_.models)
    store_results(connection, held, Finished(verdict_, packed), made["created"])


if __name__ == "__main__":
    raise SystemExit(main())
