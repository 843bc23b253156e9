"""Deletion on both databases: nothing is left of an item, and no row ever lacks its bytes."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from moderation.blobs import FolderBlobs
from moderation.errors import BlobError, ConflictError, NotFoundError
from moderation.store import deletion, derivatives, events, items, jobs
from moderation.store.deletion import FORGET_AFTER, BytesRemovedError, delete_item, remove
from moderation.store.engine import Database
from moderation.store.records import JobState, NewItem, Submission, VideoOptions
from moderation.store.tables import (
    audit,
    chunk,
    embedding,
    event,
    likeness,
    media,
    metadata,
    outbox,
    scores,
)
from tests.contract.store_data import NOW, new_item, result_for, together

WORDS = {"tenant": "default", "actor": "key_1"}


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "media")


def stored(db: Database, blobs: FolderBlobs, new: NewItem, **options: object) -> Submission:
    """As a gateway does it: the bytes first, then the rows."""
    blobs.put(new.media.blob_key, b"bytes")
    return jobs.submit(db, new, **options)  # type: ignore[arg-type]


def decided(db: Database, blobs: FolderBlobs, new: NewItem) -> Submission:
    submission = stored(db, blobs, new)
    claim = jobs.claim(db, submission.job_id, "w", 30.0)
    assert claim is not None
    assert jobs.finish(db, claim, result_for(claim))
    return submission


def gone(db: Database, item_id: str, **changes: str) -> str | None:
    removals = delete_item(db, item_id=item_id, **(WORDS | changes)).removals
    return removals[0] if removals else None


def media_of(db: Database) -> list[tuple[str, str, int]]:
    with db.connect() as connection:
        rows = connection.execute(select(media.c.id, media.c.blob_key, media.c.refs))
        return [tuple(row) for row in rows]


def traces(db: Database, *ids: str) -> list[str]:
    """Where one of these ids is still to be found, but for what keeps that it was deleted."""
    found = []
    with db.connect() as connection:
        for table in metadata.sorted_tables:
            if table in (audit, event):
                continue
            for row in connection.execute(select(table)):
                found += [table.name for one in ids if any(one in str(value) for value in row)]
    return found


def test_nothing_is_left_but_that_it_was_deleted(db: Database, blobs: FolderBlobs) -> None:
    new = new_item("a", idempotency_key="k", callback_url="https://example.org/", source="a.jpg")
    submission = decided(db, blobs, new)
    ((media_id, key, _),) = media_of(db)
    derivatives.want(db, "default", submission.item_id, "picture.webp")
    other = decided(db, blobs, new_item("other"))
    with db.begin() as connection:
        pair = {"tenant": "default", "share": 0.9, "created": NOW}
        (other_media,) = [
            row[0] for row in connection.execute(select(media.c.id)) if row[0] != media_id
        ]
        connection.execute(insert(likeness), pair | {"media_id": other_media, "other_id": media_id})
    removal, pictures = delete_item(db, item_id=submission.item_id, **WORDS).removals
    assert remove(db, blobs, removal)
    assert remove(db, blobs, pictures)
    left = traces(db, submission.item_id, submission.job_id, media_id, "a.jpg", "example.org")
    assert left == ["outbox"], "the removal itself names the folder of its pictures"
    assert not blobs.exists(key)
    with db.connect() as connection:
        kept = connection.execute(select(audit)).mappings().one()
    assert (kept["actor"], kept["action"], kept["target"]) == (
        "key_1",
        "item.delete",
        submission.item_id,
    )
    assert events.after(db, "default", 0)[-1].kind == "item.deleted"
    assert items.get_item(db, "default", other.item_id).verdict is not None
    again = jobs.submit(db, new, restored=_event(db, removal))
    assert not again.replayed, "the idempotency key is free again"


def _event(db: Database, removal: str) -> str:
    with db.connect() as connection:
        query = select(outbox.c.event_id).where(outbox.c.id == removal)
        return str(connection.execute(query).scalar_one())


def test_bytes_stay_while_another_item_has_the_same(db: Database, blobs: FolderBlobs) -> None:
    first, second = decided(db, blobs, new_item("a")), stored(db, blobs, new_item("a"))
    assert gone(db, first.item_id) is None
    ((_, key, refs),) = media_of(db)
    assert refs == 1
    assert blobs.exists(key)
    (kept,) = items.scores_of_job(db, "default", second.job_id)
    assert kept.values.shape == (2, 2), "what was found goes over to the other item"
    with db.connect() as connection:
        assert set(connection.execute(select(embedding.c.job_id)).scalars()) == {second.job_id}
    removal = gone(db, second.item_id)
    assert removal is not None
    assert remove(db, blobs, removal)
    assert not blobs.exists(key)
    assert media_of(db) == []


def test_another_analysis_of_the_same_bytes_keeps_its_own_scores(
    db: Database, blobs: FolderBlobs
) -> None:
    first, second = (decided(db, blobs, new_item("a")) for _ in range(2))
    gone(db, first.item_id)
    assert len(items.scores_of_job(db, "default", second.job_id)) == 1
    with db.connect() as connection:
        assert len(connection.execute(select(scores)).all()) == 1


def test_a_running_job_is_not_pulled_away(db: Database, blobs: FolderBlobs) -> None:
    submission = stored(db, blobs, new_item("a"))
    claim = jobs.claim(db, submission.job_id, "w", 30.0)
    assert claim is not None
    with pytest.raises(ConflictError) as raised:
        gone(db, submission.item_id)
    assert raised.value.code == "job_running"
    assert jobs.finish(db, claim, result_for(claim))
    assert gone(db, submission.item_id) is not None


def test_a_waiting_job_is_never_run(db: Database, blobs: FolderBlobs) -> None:
    submission = stored(db, blobs, new_item("a"))
    with db.begin() as connection:
        connection.execute(
            insert(chunk),
            {
                "job_id": submission.job_id,
                "number": 0,
                "tenant": "default",
                "round": 0,
                "stage": "waiting",
                "attempt": 0,
                "moments": 1,
                "asks": b"",
                "due": NOW,
                "created": NOW,
                "updated": NOW,
            },
        )
    gone(db, submission.item_id)
    assert jobs.claim(db, submission.job_id, "w", 30.0) is None
    assert jobs.sweep(db, republish_after_s=0, max_attempts=5).republish == ()
    with pytest.raises(NotFoundError):
        jobs.get_job(db, "default", submission.job_id)


def test_of_another_tenant_there_is_nothing(db: Database, blobs: FolderBlobs) -> None:
    submission = decided(db, blobs, new_item("a"))
    with pytest.raises(NotFoundError):
        gone(db, submission.item_id, tenant="other")
    gone(db, submission.item_id)
    with pytest.raises(NotFoundError):
        gone(db, submission.item_id)


def test_those_who_wait_for_the_same_film_look_themselves(db: Database, blobs: FolderBlobs) -> None:
    new = new_item("film", video=VideoOptions())
    film = replace(new, media=replace(new.media, kind="video"))
    leader, *followers = [
        stored(db, blobs, film, dedupe_models=("m@1",), now=_at(i)) for i in range(3)
    ]
    assert [one.follows for one in followers] == [True, True]
    gone(db, leader.item_id)
    for _ in range(2):  # settled after its leader has ended
        result = jobs.sweep(db, republish_after_s=0, max_attempts=5)
        assert [hint.job_id for hint in result.republish] == [followers[0].job_id]
    claim = jobs.claim(db, followers[0].job_id, "w", 30.0)
    assert claim is not None
    assert jobs.finish(db, claim, result_for(claim))
    jobs.sweep(db, republish_after_s=0, max_attempts=5)
    assert jobs.get_job(db, "default", followers[1].job_id).state is JobState.DONE


def _at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class TestRemoval:
    """The bytes, after the rows."""

    def test_a_crash_between_leaves_it_to_the_sweep(self, db: Database, blobs: FolderBlobs) -> None:
        submission = decided(db, blobs, new_item("a"))
        ((media_id, key, _),) = media_of(db)
        picture = f"derived/default/{media_id}/picture.webp"
        derivatives.want(db, "default", submission.item_id, "picture.webp")
        blobs.put(picture, b"webp")
        gone(db, submission.item_id)
        assert blobs.exists(key)
        assert deletion.sweep_removals(db, blobs) == 2
        assert not blobs.exists(key)
        assert not blobs.exists(picture)
        assert deletion.sweep_removals(db, blobs) == 0

    def test_a_store_that_is_away_is_tried_again(
        self, db: Database, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submission = decided(db, blobs, new_item("a"))
        ((_, key, _),) = media_of(db)
        gone(db, submission.item_id)

        def away(key: str) -> None:
            raise BlobError("The media store does not answer.")

        with monkeypatch.context() as patch:
            patch.setattr(blobs, "delete", away)
            assert deletion.sweep_removals(db, blobs) == 0
        assert deletion.sweep_removals(db, blobs) == 1
        assert not blobs.exists(key)

    def test_what_was_in_the_making_meanwhile_goes_later_with_the_memory_of_it(
        self, db: Database, blobs: FolderBlobs
    ) -> None:
        submission = decided(db, blobs, new_item("a"))
        ((media_id, _, _),) = media_of(db)
        derivatives.want(db, "default", submission.item_id, "proxy.mp4")
        gone(db, submission.item_id)
        assert deletion.sweep_removals(db, blobs) == 2
        late = f"derived/default/{media_id}/proxy.mp4"
        blobs.put(late, b"mp4")
        soon = datetime.now(NOW.tzinfo)
        assert deletion.sweep_removals(db, blobs, now=soon + FORGET_AFTER / 2) == 0
        assert deletion.sweep_removals(db, blobs, now=soon + FORGET_AFTER * 2) == 2
        assert not blobs.exists(late)
        assert traces(db, media_id) == []

    def test_the_same_bytes_anew_before_it_keep_theirs(
        self, db: Database, blobs: FolderBlobs
    ) -> None:
        submission = decided(db, blobs, new_item("a"))
        removal = gone(db, submission.item_id)
        assert removal is not None
        again = jobs.submit(db, new_item("a"))  # as a gateway that saw that they are there
        assert not remove(db, blobs, removal)
        ((_, key, refs),) = media_of(db)
        assert (refs, blobs.exists(key)) == (1, True)
        assert gone(db, again.item_id) == removal, "and they can be deleted once more"

    def test_pictures_go_although_the_same_bytes_come_anew(
        self, db: Database, blobs: FolderBlobs
    ) -> None:
        submission = decided(db, blobs, new_item("a"))
        ((media_id, key, _),) = media_of(db)
        derivatives.want(db, "default", submission.item_id, "picture.webp")
        picture = f"derived/default/{media_id}/picture.webp"
        blobs.put(picture, b"webp")
        gone(db, submission.item_id)
        stored(db, blobs, new_item("a"))
        assert deletion.sweep_removals(db, blobs) == 1
        assert (blobs.exists(key), blobs.exists(picture)) == (True, False)

    def test_the_same_bytes_anew_just_after_it_are_stored_once_more(
        self, db: Database, blobs: FolderBlobs
    ) -> None:
        removal = gone(db, decided(db, blobs, new_item("a")).item_id)
        assert removal is not None
        assert remove(db, blobs, removal)
        with pytest.raises(BytesRemovedError) as raised:
            jobs.submit(db, new_item("a"))
        assert media_of(db) == []
        with pytest.raises(BytesRemovedError):
            jobs.submit(db, new_item("a"), restored="evt_of_another")
        jobs.submit(db, new_item("a"), restored=raised.value.removal)
        assert len(media_of(db)) == 1
        jobs.submit(db, new_item("a"))  # and from then on as ever


def test_two_with_the_same_bytes_leave_together(db: Database, blobs: FolderBlobs) -> None:
    pair = [decided(db, blobs, new_item("a")).item_id for _ in range(2)]
    removals = together(lambda n: gone(db, pair[n]), threads=2)
    assert len([one for one in removals if one is not None]) == 1
    assert media_of(db) == []
    assert traces(db, *pair) == []


def test_who_comes_in_the_middle_of_a_deletion_keeps_the_bytes(
    db: Database, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = new_item("a")
    leaving = stored(db, blobs, new)
    with ThreadPoolExecutor(1) as pool:
        newcomers: list[Future[Submission]] = []

        def at_the_end(*args: object, **options: object) -> None:
            newcomers.append(pool.submit(stored, db, blobs, new))
            waits_for_us(db, newcomers[0])

        monkeypatch.setattr(deletion, "append", at_the_end)
        removal = gone(db, leaving.item_id)
        newcomers[0].result()
    assert removal is not None
    assert not remove(db, blobs, removal)
    assert blobs.exists(new.media.blob_key)


def waits_for_us(db: Database, newcomer: Future[Submission]) -> None:
    """SQLite lets one write at a time; a PostgreSQL newcomer has to have come to the lock."""
    if db.dialect == "sqlite":
        return
    query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not newcomer.done():
        with db.connect() as connection:
            if connection.execute(query).scalar_one():
                return
    raise AssertionError("the newcomer did not wait")


def test_however_it_is_raced_no_row_lacks_its_bytes(db: Database, blobs: FolderBlobs) -> None:
    """Four threads submit and delete the same bytes, in the order in which a gateway does it."""
    new = new_item("a")

    def run(number: int) -> None:
        for _ in range(12):
            blobs.put(new.media.blob_key, b"bytes")
            restored: str | None = None
            while True:
                try:
                    submission = jobs.submit(db, new, restored=restored)
                    break
                except BytesRemovedError as error:
                    blobs.put(new.media.blob_key, b"bytes")
                    restored = error.removal
            assert blobs.exists(new.media.blob_key)
            removal = gone(db, submission.item_id)
            if removal is not None:
                remove(db, blobs, removal)

    together(run, threads=4)
    assert media_of(db) == []
    deletion.sweep_removals(db, blobs)
    assert not blobs.exists(new.media.blob_key)
