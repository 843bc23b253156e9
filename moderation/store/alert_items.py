"""An alert becomes an item, so that people find it where they find all that needs a look.

The item's medium is what was kept of the stream around the alert; its verdict is the alert's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select, update

from moderation.ids import new_id
from moderation.store.codec import clock, iso, load_verdict, model_set
from moderation.store.ending import (
    OpenJob,
    announce,
    lock_job,
    put_in_force,
    record_verdict,
    store_results,
)
from moderation.store.engine import Database
from moderation.store.live_changes import HeldStream, alert_row, lock_stream
from moderation.store.live_records import AlertEvidence, AlertRow
from moderation.store.opening import insert_item, keep_media
from moderation.store.records import Finished, JobState
from moderation.store.tables import alert, item, job, stream
from moderation.store.tables import verdict as verdicts
from moderation.types import Reason, Segment, Status, Verdict

LIVE: Final = "live"
"""Kind of the job of such an item: it was done by the owner of the stream."""
VIDEO: Final = "video"
PRIORITY: Final = 9
"""People look at it before uploads of any priority: the stream goes on."""


def keep(
    db: Database,
    stream_id: str,
    alert_id: str,
    found: AlertEvidence,
    *,
    restored: str | None = None,
    now: datetime | None = None,
) -> str | None:
    """Makes the item of an alert of a stream, in one transaction with its verdict and event; the
    item's id. The bytes are stored already.

    No lease is asked for: who wrote the alert had it then, and alone has the evidence, while the
    stream may be over or another's by now. None, and nothing written, when the alert is gone. An
    alert that has an item keeps that one. Raises StoreError, and BytesRemovedError where the bytes
    may have been deleted since: the caller stores them once more, and names that removal as
    `restored`.
    """
    moment = clock(now)
    with db.begin() as connection:
        held = lock_stream(connection, stream.c.id == stream_id)
        row = None if held is None else _alert(connection, held, alert_id)
        if held is None or row is None:
            return None
        if row.item_id is not None:
            return row.item_id
        media_id = keep_media(connection, held.tenant, found.media, moment, restored=restored)
        source = select(stream.c.shown).where(stream.c.id == held.id)
        done = OpenJob(
            id=new_id("job"),
            item_id=new_id("item"),
            tenant=held.tenant,
            media_id=media_id,
            state=JobState.DONE,
            attempt=1,
            cancel_requested=False,
            policy_version=held.policy_version,
            # Of what people decide.
            callback_url=held.callback_url,
            source=connection.execute(source).scalar_one(),
            data_id=held.data_id,
        )
        verdict = judged(row, done, found)
        models = model_set(verdict.models)
        insert_item(
            connection,
            done,
            kind=LIVE,
            models=models,
            now=moment,
            stream_id=held.id,
            priority=PRIORITY,
        )
        store_results(connection, done, Finished(verdict, found.scores), moment)
        clip = {"key": found.media.blob_key, "size": found.media.size}
        clip |= {"media_type": found.media_type, "begun": iso(found.begun)}
        connection.execute(
            update(alert)
            .where(alert.c.id == row.id)
            .values(
                item_id=done.item_id,
                evidence={"clip": clip} if found.media.kind == VIDEO else {},
                updated=moment,
            )
        )
        # The alert's own callbacks have told of it.
        record_verdict(connection, replace(done, callback_url=None), verdict, moment)
    return done.item_id


def revise(connection: Connection, graver: Sequence[AlertRow], now: datetime) -> None:
    """These alerts are graver than they were: so are their items, unless a person has decided
    them. Nothing may follow it in the transaction but `live_changes.tell` and its commit."""
    rows = {row.item_id: row for row in graver if row.item_id is not None}
    query = select(job.c.id).where(job.c.item_id.in_(rows)).order_by(job.c.id)
    found = connection.execute(query).scalars().all()
    # All are locked, in one order, before the first event is written: that has a lock, too, which
    # who decides one of the items would wait for.
    held = [one for job_id in found if (one := lock_job(connection, job.c.id == job_id))]
    told = []
    for done in held:
        before = _in_force(connection, done.item_id)
        if before is None or before.decided_by == "person":
            continue
        verdict = revised(before, rows[done.item_id])
        put_in_force(connection, done, verdict, now)
        # As when it was made: the alert's own callbacks tell of it.
        told.append((replace(done, callback_url=None), verdict))
    for done, verdict in told:
        announce(connection, done, verdict, now)


def judged(row: AlertRow, done: OpenJob, found: AlertEvidence) -> Verdict:
    """The verdict of an alert's item. Its times count from the beginning of the medium."""
    segments = None
    length_s = found.media.duration_s
    if length_s is not None:
        start_s, peak_s, end_s = (
            min(max((at - found.begun).total_seconds(), 0.0), length_s)
            for at in (row.start, row.captured, row.end or row.captured)
        )
        # An alert that is open goes on to the end of what was kept.
        end_s = length_s if row.end is None else max(end_s, peak_s)
        segments = [_segment(row, start_s=start_s, peak_s=peak_s, end_s=end_s)]
    peaks = {} if found.scores is None else found.scores.peaks()
    return Verdict(
        id=done.item_id,
        job_id=done.id,
        source=done.source,
        data_id=done.data_id,
        status=Status.DONE,
        decision=row.decision,
        reasons=[_reason(row, None if segments is None else segments[0].boxes_s)],
        scores=peaks,
        segments=segments,
        coverage=found.coverage,
        policy=row.policy,
        models=[] if found.scores is None else list(found.scores.models),
    )


def revised(before: Verdict, row: AlertRow) -> Verdict:
    """The verdict with what the alert has become."""
    segments = before.segments
    if segments:
        first = segments[0]
        times = {"start_s": first.start_s, "peak_s": first.peak_s, "end_s": first.end_s}
        segments = [_segment(row, **times)]
    reason = _reason(row, segments[0].boxes_s if segments else None)
    changes: Mapping[str, Any] = {
        "decision": row.decision,
        "reasons": [reason],
        "segments": segments,
    }
    return before.model_copy(update=changes)


def _reason(row: AlertRow, boxes_s: float | None) -> Reason:
    return Reason(
        category=row.label.partition(".")[0],
        label=row.label,
        sublabel=row.sublabel,
        score=row.score,
        decision=row.decision,
        threshold=row.threshold,
        boxes=[list(box) for box in row.boxes],
        boxes_s=boxes_s,
        detail=f"Alert {row.id} of a live stream.",
    )


def _segment(row: AlertRow, *, start_s: float, peak_s: float, end_s: float) -> Segment:
    boxes = [list(box) for box in row.boxes] or None
    return Segment(
        label=row.label,
        decision=row.decision,
        start_s=round(start_s, 3),
        end_s=round(end_s, 3),
        peak_s=round(peak_s, 3),
        score=row.score,
        sublabel=row.sublabel,
        boxes=boxes,
        boxes_s=None if boxes is None else round(peak_s, 3),
    )


def _in_force(connection: Connection, item_id: str) -> Verdict | None:
    query = (
        select(verdicts.c.body)
        .join(item, item.c.current_verdict == verdicts.c.id)
        .where(item.c.id == item_id)
    )
    body = connection.execute(query).scalar_one_or_none()
    return None if body is None else load_verdict(body)


def _alert(connection: Connection, held: HeldStream, alert_id: str) -> AlertRow | None:
    query = select(alert).where(alert.c.id == alert_id, alert.c.stream_id == held.id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else alert_row(row)
