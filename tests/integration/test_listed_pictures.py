"""Pictures that look like listed ones: through real decoder children, on a real database."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from moderation.analyse import Analyser
from moderation.blobs import BlobStore, blob_key, open_blobs
from moderation.decoders import DecoderPool
from moderation.known import BankKind, MatchKind
from moderation.models.runner import load_scorer
from moderation.policy import Policy, Rule
from moderation.settings import Settings, load_settings
from moderation.store import items, jobs, list_entries, lists
from moderation.store.decisions import decide
from moderation.store.engine import Database
from moderation.store.list_records import BankChanges, BankRow, NewBank, NewEntry
from moderation.store.records import DEFAULT_TENANT, NewItem, NewMedia, Submission
from moderation.store.review_records import Action, Choice
from moderation.tasks.image import ImageRuntime, run_image
from moderation.tasks.messages import JobMessage
from moderation.types import Decision, Verdict

POLICY = Policy(
    id="test", version=1, rules=(Rule(label="porn.explicit", review_at=0.5, block_at=0.9),)
)
MODELS = ("fake@1",)
LABEL = "violence.gore"


def painted(seed: int) -> Image.Image:
    """Clouds of colour: no two seeds look alike. Hardly red, which is what the fake model sees."""
    rough = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    pixels: NDArray[np.uint8] = np.asarray(
        cv2.resize(rough, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8
    )
    pixels = pixels.copy()
    pixels[..., 0] //= 4
    return Image.fromarray(pixels)


def encoded(image: Image.Image, fmt: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


CHANGED: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: encoded(image, "JPEG", quality=40),
    "smaller": lambda image: encoded(image.resize((200, 150))),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.2), "WEBP"),
    "grey": lambda image: encoded(image.convert("L")),
}


class Nobody:
    """Waker and producer that have nobody to tell."""

    def wake(self, job_id: str) -> None:
        pass

    def enqueue(self, message: JobMessage, priority: int = 0) -> None:
        pass

    def run_id(self) -> str:
        return "first"


@dataclass
class Place:
    """A gateway's store and an infer worker, in this thread."""

    db: Database
    blobs: BlobStore
    runtime: ImageRuntime

    def submit(self, data: bytes) -> Submission:
        sha = hashlib.sha256(data).hexdigest()
        key = blob_key(DEFAULT_TENANT, sha)
        self.blobs.put(key, data)
        media = NewMedia(sha256=sha, size=len(data), format="png", blob_key=key)
        new = NewItem(tenant=DEFAULT_TENANT, media=media, policy=POLICY)
        return jobs.submit(self.db, new, dedupe_models=MODELS)

    def upload(self, data: bytes) -> Verdict:
        told = self.submit(data)
        if told.verdict is None:
            run_image(told.job_id, self.runtime)
        verdict = items.verdict_of_job(self.db, told.job_id)
        assert verdict is not None
        return verdict

    def bank(self, name: str, kind: BankKind = BankKind.BLOCK, distance: int = 31) -> BankRow:
        decision = Decision.BLOCK if kind is BankKind.BLOCK else Decision.PASS
        new = NewBank(name, kind, decision, LABEL, distance)
        return lists.create_bank(self.db, DEFAULT_TENANT, new, actor="a")

    def add_item(self, bank: BankRow, item_id: str, *, pdq_alone: bool = False) -> None:
        entries, left_out = list_entries.of_item(self.db, DEFAULT_TENANT, item_id)
        assert left_out is None
        if pdq_alone:
            entries = [one for one in entries if one.match is MatchKind.PDQ]
        self.add(bank, entries)

    def add(self, bank: BankRow, entries: list[NewEntry]) -> None:
        list_entries.add_entries(self.db, DEFAULT_TENANT, bank.id, entries, actor="a")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(backend="fake")


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[DecoderPool]:
    with DecoderPool.from_settings(settings) as pool:
        yield pool


@pytest.fixture
def place(db: Database, tmp_path: Path, settings: Settings, pool: DecoderPool) -> Iterator[Place]:
    blobs = open_blobs((tmp_path / "media").as_uri())
    scorer = load_scorer(settings)
    runtime = ImageRuntime(
        db=db,
        blobs=blobs,
        analyser=Analyser(scorer, pool, settings),
        waker=Nobody(),
        producer=Nobody(),
        owner="infer-1",
        models=MODELS,
        device="fake",
        lease_s=10,
        max_attempts=2,
    )
    yield Place(db, blobs, runtime)
    scorer.close()


@pytest.mark.parametrize("change", CHANGED)
def test_the_next_changed_copy_is_blocked(place: Place, change: str) -> None:
    original = painted(1)
    before = place.upload(encoded(original))
    assert (before.decision, before.decided_by) == (Decision.PASS, "policy")
    bank = place.bank("known")
    place.add_item(bank, before.id)
    verdict = place.upload(CHANGED[change](original))
    assert (verdict.decision, verdict.decided_by) == (Decision.BLOCK, "list")
    (reason,) = verdict.reasons
    assert reason.label == LABEL
    assert reason.detail is not None
    assert "of 256 bits from an entry of the block list 'known'" in reason.detail
    assert (verdict.models, verdict.scores, verdict.coverage.complete) == ([], {}, False)
    assert verdict.timings_ms.keys() == {"queued", "decode", "lists", "total"}
    assert place.upload(encoded(original)).decided_by == "list", "the same bytes"
    other = place.upload(encoded(painted(2)))
    assert (other.decision, other.decided_by) == (Decision.PASS, "policy")


def test_a_verdict_of_the_models_gives_way_and_comes_back(place: Place) -> None:
    data = encoded(painted(1))
    first = place.upload(data)
    assert place.upload(data).decided_by == "duplicate"
    bank = place.bank("known")
    place.add_item(bank, first.id, pdq_alone=True)
    listed = place.upload(data)
    assert (listed.decision, listed.decided_by) == (Decision.BLOCK, "list")
    lists.delete_bank(place.db, DEFAULT_TENANT, bank.id, actor="a")
    assert place.upload(data).decided_by == "duplicate", "of the models' verdict"


def test_who_looked_at_the_same_bytes_outranks_older_likenesses(place: Place) -> None:
    data = encoded(painted(1))
    first = place.upload(data)
    bank = place.bank("known")
    place.add_item(bank, first.id, pdq_alone=True)
    listed = place.upload(data)
    assert listed.decided_by == "list"
    decide(place.db, DEFAULT_TENANT, "user_mei", listed.id, Choice(Action.PASS))
    assert place.upload(data).decided_by == "person"
    assert place.upload(encoded(painted(1), "JPEG")).decided_by == "list", "other bytes"
    place.add_item(place.bank("newer"), first.id, pdq_alone=True)
    newer = place.upload(data)
    assert (newer.decision, newer.decided_by) == (Decision.BLOCK, "list")


def test_a_newer_entry_that_cannot_decide_leaves_it_to_the_person(place: Place) -> None:
    moving = encoded(painted(1), "GIF", save_all=True, append_images=[painted(3)])
    first = place.upload(moving)
    decide(place.db, DEFAULT_TENANT, "user_mei", first.id, Choice(Action.BLOCK, LABEL))
    place.add_item(place.bank("fine", BankKind.ALLOW), first.id, pdq_alone=True)
    told = place.submit(moving)
    assert told.verdict is None
    run_image(told.job_id, place.runtime)
    verdict = items.verdict_of_job(place.db, told.job_id)
    assert verdict is not None
    assert (verdict.decision, verdict.decided_by) == (Decision.BLOCK, "person")
    assert place.submit(moving).verdict is not None, "it is asked once"


def test_an_allow_bank_passes_a_copy_within_its_distance_and_nothing_else(place: Place) -> None:
    red = Image.new("RGB", (640, 480), (255, 0, 0))
    red.paste(painted(1).resize((320, 480)), (320, 0))
    data, copy = encoded(red), encoded(red, "JPEG", quality=60)
    first = place.upload(data)
    assert first.decision is Decision.REVIEW
    allow = place.bank("fine", BankKind.ALLOW)
    place.add_item(allow, first.id, pdq_alone=True)
    passed = place.upload(copy)
    assert (passed.decision, passed.decided_by, passed.reasons) == (Decision.PASS, "list", [])
    assert "the allow list 'fine'" in passed.coverage.notes[0]

    clear = red.convert("RGBA")
    clear.putpixel((0, 0), (255, 0, 0, 0))
    assert place.upload(encoded(clear)).decision is Decision.REVIEW
    moving = encoded(red, "GIF", save_all=True, append_images=[painted(3)])
    assert place.upload(moving).decided_by == "policy"

    block = place.bank("known")
    place.add_item(block, first.id, pdq_alone=True)
    assert place.upload(copy).decision is Decision.BLOCK
    off = BankChanges(enabled=False)
    lists.change_bank(place.db, DEFAULT_TENANT, block.id, off, actor="a")
    assert place.upload(copy).decision is Decision.PASS
    none = BankChanges(distance=0)
    lists.change_bank(place.db, DEFAULT_TENANT, allow.id, none, actor="a")
    assert place.upload(encoded(red.resize((300, 200)), "JPEG", quality=30)).decided_by == "policy"


def test_plain_pictures_match_nothing(place: Place) -> None:
    plain = Image.new("RGB", (64, 48), (10, 20, 30))
    first = place.upload(encoded(plain))
    entries, left_out = list_entries.of_item(place.db, DEFAULT_TENANT, first.id)
    assert [one.match for one in entries] == [MatchKind.SHA256]
    assert left_out is not None
    assert "too plain" in left_out
    bank = place.bank("known")
    place.add(bank, [NewEntry(MatchKind.PDQ, "0" * 64), NewEntry(MatchKind.PDQ, "f" * 64)])
    assert place.upload(encoded(plain.resize((65, 48)))).decided_by == "policy"
