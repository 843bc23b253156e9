"""An alert becomes an item, so that people find it where they find all that needs a look.

The item's medium is what was kept of the stream around the alert; its verdict is the alert's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from moderation.ids import new_id
from moderation.store.codec import clock, iso, load_verdict, model_set, pack_f32
from moderation.store.deletion import reclaim
from moderation.store.ending import OpenJob, record_verdict
from moderation.store.engine import Database
from moderation.store.live_changes import HeldStream, alert_row, lock_stream, owned_by
from moderation.store.live_records import AlertEvidence, AlertRow, StreamLease
from moderation.store.media import keep_media
from moderation.store.records import JobState
from moderation.store.tables import alert, item, job, scores, stream
from moderation.store.tables import verdict as verdicts
from moderation.types import Reason, Segment, Status, Verdict

LIVE: Final = "live"
"""Kind of the job of such an item: it was done by the owner of the stream."""


def keep(
    db: Database,
    lease: StreamLease,
    alert_id: str,
    found: AlertEvidence,
    *,
    restored: str | None = None,
    now: datetime | None = None,
) -> str | None:
    """Makes the item of an alert of the owner's stream, in one transaction with its verdict and
    event; the item's id. The bytes are stored already.

    None, and nothing written, when the lease does not hold or the alert is gone. An alert that has
    an item keeps that one. Raises StoreError, and BytesRemovedError where the bytes may have been
    deleted since: the caller stores them once more, and names that removal as `restored`.
    """
    moment = clock(now)
    with db.begin() as connection:
        held = lock_stream(connection, *owned_by(lease, moment))
        row = None if held is None else _alert(connection, held, alert_id)
        if held is None or row is None:
            return None
        if row.item_id is not None:
            return row.item_id
        reclaim(connection, found.media.blob_key, known=restored)
        media_id = keep_media(connection, held.tenant, found.media, moment)
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
            # The alert's own callbacks told of it; what people decide goes to the job's.
            callback_url=None,
            source=connection.execute(source).scalar_one(),
            data_id=held.data_id,
        )
        _insert(connection, held, done, found, moment)
        clip = {"key": found.media.blob_key, "size": found.media.size}
        clip |= {"media_type": found.media_type, "begun": iso(found.begun)}
        connection.execute(
            update(alert)
            .where(alert.c.id == row.id)
            .values(
                item_id=done.item_id,
                evidence={} if found.duration_s is None else {"clip": clip},
                updated=moment,
            )
        )
        record_verdict(connection, done, judged(row, done, found), moment)
    return done.item_id


def revise(connection: Connection, held: HeldStream, row: AlertRow, now: datetime) -> None:
    """The alert is graver than it was: so is its item, unless a person has decided it. Nothing may
    follow it in the transaction but `live_changes.tell` and its commit."""
    if row.item_id is None:
        return
    query = (
        select(verdicts.c.body, verdicts.c.job_id, verdicts.c.policy_version, item.c.media_id)
        .join(item, item.c.current_verdict == verdicts.c.id)
        .where(item.c.id == row.item_id)
    )
    known = connection.execute(query).one_or_none()
    before = None if known is None else load_verdict(known.body)
    if known is None or before is None or before.decided_by == "person":
        return
    done = OpenJob(
        id=known.job_id,
        item_id=row.item_id,
        tenant=held.tenant,
        media_id=known.media_id,
        state=JobState.DONE,
        attempt=1,
        cancel_requested=False,
        policy_version=known.policy_version,
        callback_url=None,
        source=before.source,
        data_id=before.data_id,
    )
    record_verdict(connection, done, revised(before, row), now)


def judged(row: AlertRow, done: OpenJob, found: AlertEvidence) -> Verdict:
    """The verdict of an alert's item. Its times count from the beginning of the medium."""
    segments = None
    if found.duration_s is not None:
        start_s, peak_s, end_s = (
            min(max((at - found.begun).total_seconds(), 0.0), found.duration_s)
            for at in (row.start, row.captured, row.end or row.captured)
        )
        # An alert that is open goes on to the end of what was kept.
        end_s = found.duration_s if row.end is None else max(end_s, peak_s)
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


def _alert(connection: Connection, held: HeldStream, alert_id: str) -> AlertRow | None:
    query = select(alert).where(alert.c.id == alert_id, alert.c.stream_id == held.id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else alert_row(row)


def _insert(
    connection: Connection, held: HeldStream, done: OpenJob, found: AlertEvidence, now: datetime
) -> None:
    connection.execute(
        insert(item),
        {
            "id": done.item_id,
            "tenant": done.tenant,
            "media_id": done.media_id,
            "job_id": done.id,
            "stream_id": held.id,
            "source": done.source,
            "data_id": done.data_id,
            "created": now,
        },
    )
    packed = found.scores
    models = None if packed is None else model_set(packed.models)
    connection.execute(
        insert(job),
        {
            "id": done.id,
            "tenant": done.tenant,
            "item_id": done.item_id,
            "kind": LIVE,
            "state": done.state.value,
            "attempt": done.attempt,
            "priority": 0,
            "policy_version": done.policy_version,
            "models": models,
            "callback_url": held.callback_url,
            "cancel_requested": False,
            "created": now,
            "queued": now,
            "updated": now,
            "ended": now,
        },
    )
    if packed is not None:
        connection.execute(
            insert(scores),
            {
                "job_id": done.id,
                "models": models,
                "tenant": done.tenant,
                "media_id": done.media_id,
                "labels": list(packed.labels),
                "views": int(packed.values.shape[0]),
                "packed": pack_f32(packed.values),
                "times": pack_f32(packed.times),
                "created": now,
            },
        )
