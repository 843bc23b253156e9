"""Videos that show the same are linked, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import func, select

from moderation.store import jobs
from moderation.store.engine import Database
from moderation.store.fingerprints import CANDIDATES, SimilarItem, remember, similar
from moderation.store.records import Submission
from moderation.store.tables import fingerprint, item
from moderation.types import Decision
from tests.contract.store_data import NOW, new_item, result_for


@dataclass(frozen=True)
class Frame:
    time_s: float
    pdq: str
    quality: int = 90


def film(seed: int, seconds: int = 20) -> list[Frame]:
    random = Random(seed)
    return [Frame(float(second), f"{random.getrandbits(256):064x}") for second in range(seconds)]


def media_of(db: Database, sub: Submission) -> str:
    with db.connect() as connection:
        query = select(item.c.media_id).where(item.c.id == sub.item_id)
        return str(connection.execute(query).scalar_one())


def uploaded(
    db: Database,
    content: object,
    frames: Sequence[Frame],
    *,
    duration_s: float = 20.0,
    tenant: str = "default",
) -> tuple[Submission, str, int]:
    """The submission, its media, and how many earlier videos it was linked to."""
    sub = jobs.submit(db, new_item(content, tenant=tenant), now=NOW)
    media_id = media_of(db, sub)
    with db.begin() as connection:
        links = remember(connection, tenant, media_id, duration_s, frames, NOW)
    return sub, media_id, links


def test_a_copy_is_linked_and_told_from_either_side(db: Database) -> None:
    first, first_media, none = uploaded(db, 1, film(1))
    _, other_media, _ = uploaded(db, 2, film(2))
    copy, copy_media, one = uploaded(db, 3, film(1)[:15] + film(3)[15:], duration_s=21.0)
    assert (none, one) == (0, 1)
    assert similar(db, "default", copy_media) == (SimilarItem(first.item_id, 0.75, None),)
    assert similar(db, "default", first_media) == (SimilarItem(copy.item_id, 0.75, None),)
    assert similar(db, "default", other_media) == ()


def test_the_latest_item_stands_for_a_video_with_its_decision(db: Database) -> None:
    uploaded(db, 1, film(1))
    again = jobs.submit(db, new_item(1, data_id="again"), now=NOW + timedelta(seconds=1))
    claim = jobs.claim(db, again.job_id, "w1", 15, now=NOW)
    assert claim is not None
    assert jobs.finish(db, claim, result_for(claim, Decision.BLOCK), now=NOW)
    _, copy_media, _ = uploaded(db, 2, film(1))
    assert similar(db, "default", copy_media) == (SimilarItem(again.item_id, 1.0, Decision.BLOCK),)


def test_the_likest_comes_first(db: Database) -> None:
    half, _, _ = uploaded(db, 1, film(1)[:10] + film(2)[10:])
    most, _, _ = uploaded(db, 2, film(1)[:18] + film(3)[18:])
    _, media, links = uploaded(db, 3, film(1))
    assert links == 2
    assert [one.item_id for one in similar(db, "default", media)] == [most.item_id, half.item_id]


def test_other_tenants_are_neither_linked_nor_told(db: Database) -> None:
    _, media, _ = uploaded(db, 1, film(1))
    _, foreign, links = uploaded(db, 1, film(1), tenant="other")
    assert links == 0
    _, _, links = uploaded(db, 2, film(1))
    assert links == 1
    assert similar(db, "other", media) == ()
    assert similar(db, "other", foreign) == ()


@pytest.mark.parametrize(("duration_s", "links"), [(23.0, 1), (17.0, 1), (23.1, 0), (16.9, 0)])
def test_only_films_of_about_the_same_length_are_compared(
    db: Database, duration_s: float, links: int
) -> None:
    uploaded(db, 1, film(1))
    assert uploaded(db, 2, film(1), duration_s=duration_s)[2] == links


def test_the_nearest_in_length_are_compared_when_there_are_many(db: Database) -> None:
    uploaded(db, "far", film(1), duration_s=22.0)
    near, _, _ = uploaded(db, "near", film(1), duration_s=20.5)
    for number in range(CANDIDATES - 1):
        uploaded(db, number, film(100 + number))
    _, media, links = uploaded(db, "copy", film(1))
    assert links == 1
    assert [one.item_id for one in similar(db, "default", media)] == [near.item_id]


def test_a_job_done_again_changes_nothing(db: Database) -> None:
    _, first, _ = uploaded(db, 1, film(1))
    _, media, links = uploaded(db, 2, film(1))
    assert links == 1
    with db.begin() as connection:
        assert remember(connection, "default", media, 20.0, film(1), NOW) == 0
        assert remember(connection, "default", first, 20.0, film(1), NOW) == 0
    assert len(similar(db, "default", media)) == 1
    with db.connect() as connection:
        assert connection.execute(select(func.count()).select_from(fingerprint)).scalar_one() == 2


def test_a_video_of_plain_frames_is_like_none(db: Database) -> None:
    plain = [Frame(float(second), "ab" * 32, quality=10) for second in range(20)]
    uploaded(db, 1, plain)
    assert uploaded(db, 2, plain)[2] == 0
