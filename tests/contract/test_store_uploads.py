"""Uploads in pieces, on both engines."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from moderation.blobs import FolderBlobs
from moderation.errors import ConflictError, LimitError, NotFoundError, OverloadedError
from moderation.store import uploads
from moderation.store.engine import Database
from moderation.store.uploads import Part, UploadRow
from tests.contract.store_data import NOW, together

HOUR = timedelta(hours=1)


def begin(db: Database, length: int = 100, tenant: str = "t", room: int = 10**15) -> UploadRow:
    metadata = {"filename": "ZmlsbQ==", "odd": ""}
    return uploads.create(
        db, tenant, length=length, metadata=metadata, expires=NOW + HOUR, room=room, now=NOW
    )


def append(db: Database, row: UploadRow, start: int, size: int) -> UploadRow:
    part = Part(start, size, uploads.part_key(row.id, start))
    return uploads.append(db, row, part, expires=NOW + 2 * HOUR, now=NOW)


def test_pieces_are_kept_in_order(db: Database) -> None:
    row = begin(db, 2**40)
    assert uploads.get(db, "t", row.id, now=NOW) == row
    assert not row.complete
    row = append(db, row, 0, 10)
    row = append(db, row, 10, 2**40 - 10)
    assert (row.complete, row.expires) == (True, NOW + 2 * HOUR)
    assert uploads.get(db, "t", row.id, now=NOW) == row
    found = [(part.start, part.size) for part in uploads.parts(db, row.id)]
    assert found == [(0, 10), (10, 2**40 - 10)]


@pytest.mark.parametrize(("start", "size"), [(0, 5), (9, 5), (11, 5), (10, 91)])
def test_a_piece_for_another_place_changes_nothing(db: Database, start: int, size: int) -> None:
    row = append(db, begin(db), 0, 10)
    with pytest.raises(ConflictError) as error:
        append(db, row, start, size)
    assert error.value.code == "upload_offset"
    assert uploads.get(db, "t", row.id, now=NOW) == row
    assert len(uploads.parts(db, row.id)) == 1


def test_of_many_pieces_for_one_place_one_is_taken(db: Database) -> None:
    row = begin(db)

    def offer(number: int) -> bool:
        try:
            append(db, row, 0, number + 1)
        except ConflictError:
            return False
        return True

    assert sum(together(offer)) == 1
    [part] = uploads.parts(db, row.id)
    assert uploads.get(db, "t", row.id, now=NOW).received == part.size


def test_pieces_are_bounded(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PARTS", 2)
    row = begin(db)
    for start in range(2):
        row = append(db, row, start, 1)
    with pytest.raises(LimitError) as error:
        append(db, row, 2, 1)
    assert error.value.code == "too_many_parts"
    assert uploads.get(db, "t", row.id, now=NOW) == row


def test_an_upload_is_its_tenants_until_it_expires(db: Database) -> None:
    row = begin(db)
    with pytest.raises(NotFoundError):
        uploads.get(db, "other", row.id, now=NOW)
    for call in (
        lambda: uploads.get(db, "t", row.id, now=NOW + HOUR),
        lambda: uploads.append(db, row, Part(0, 1, "x"), expires=NOW + 9 * HOUR, now=NOW + HOUR),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_what_is_announced_together_is_bounded(db: Database) -> None:
    begin(db, 60, room=100)
    with pytest.raises(OverloadedError):
        begin(db, 41, room=100)
    begin(db, 100, tenant="other", room=100)
    begin(db, 40, room=100)


def test_what_is_discarded_is_gone_with_its_bytes(db: Database, tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    rows = [begin(db) for _ in range(2)]
    for row in rows:
        part = Part(0, 3, uploads.part_key(row.id, 0))
        blobs.put(part.blob_key, b"abc")
        uploads.append(db, row, part, expires=NOW + HOUR, now=NOW)
    lost = uploads.part_key(rows[0].id, 3)  # a gateway died before it could append this one
    blobs.put(lost, b"xyz")
    uploads.discard(db, blobs, rows[0].id, now=NOW)
    uploads.discard(db, blobs, rows[0].id, now=NOW)
    with pytest.raises(NotFoundError):
        append(db, rows[0], 3, 1)
    assert uploads.parts(db, rows[0].id) == []
    assert not blobs.exists(lost)
    [kept] = uploads.parts(db, rows[1].id)
    assert blobs.get(kept.blob_key) == b"abc"


def test_no_more_are_pruned_at_once_than_told(db: Database, tmp_path: Path) -> None:
    for _ in range(5):
        begin(db)
    blobs = FolderBlobs(tmp_path)
    later = NOW + HOUR
    assert [uploads.prune(db, blobs, limit=2, now=later) for _ in range(4)] == [2, 2, 1, 0]
