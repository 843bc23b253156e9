"""What looks like an entry of a list, as a process remembers it, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from moderation.known import BankKind, MatchKind
from moderation.store import (
    list_entries,
    listed,
    lists,
)
from moderation.store.engine import Database
from moderation.store.list_records import BankChanges, NewEntry
from moderation.store.listed import Lists
from moderation.types import Decision
from tests.contract.list_data import (
    ACTOR,
    LOOK,
    PDQ,
    a_bank,
    add,
    later,
    turned,
)
from tests.contract.store_data import NOW, together


@dataclass(frozen=True)
class Frame:
    time_s: float
    pdq: str
    quality: int = 90


class TestNear:
    """One process, whose memory grows from one question to the next."""

    def near(self, memory: Lists, db: Database, pdq: str = PDQ) -> list[tuple[str, int]]:
        hits = memory.near(db, "default", pdq, now=NOW).hits
        return [(hit.entry_id, hit.distance) for hit in hits]

    def test_every_change_counts_at_the_next_question(self, db: Database) -> None:
        memory = Lists()
        assert memory.near(db, "default", PDQ).version == 0
        bank = a_bank(db, distance=20)
        (far,) = add(db, bank, NewEntry(MatchKind.PDQ, turned(PDQ, 20)))
        assert self.near(memory, db) == [(far, 20)]
        (near,) = add(db, bank, NewEntry(MatchKind.PDQ, turned(PDQ, 2)), expires=later(5))
        add(db, bank, NewEntry(MatchKind.PDQ, turned(PDQ, 21)), NewEntry(MatchKind.SHA256, PDQ))
        assert self.near(memory, db) == [(near, 2), (far, 20)]
        later_on = memory.near(db, "default", PDQ, now=later(5)).hits
        assert [hit.entry_id for hit in later_on] == [far]

        def changed(**changes: Any) -> list[tuple[str, int]]:
            lists.change_bank(db, "default", bank.id, BankChanges(**changes), actor=ACTOR)
            return self.near(memory, db)

        assert changed(distance=19) == [(near, 2)]
        assert changed(enabled=False) == []
        assert changed(enabled=True, distance=20) == [(near, 2), (far, 20)]
        list_entries.remove_entry(db, "default", bank.id, near, actor=ACTOR)
        assert self.near(memory, db) == [(far, 20)]
        lists.delete_bank(db, "default", bank.id, actor=ACTOR)
        assert self.near(memory, db) == []
        (entry,) = add(db, a_bank(db, "another"), LOOK)
        assert self.near(memory, db) == [(entry, 0)]

    def test_a_hit_says_what_the_bank_says(self, db: Database) -> None:
        bank = a_bank(db, decision=Decision.REVIEW, label="violence.gore")
        (entry,) = add(db, bank, LOOK)
        (hit,) = Lists().near(db, "default", turned(PDQ, 7)).hits
        assert (hit.bank_id, hit.bank, hit.kind) == (bank.id, "known", BankKind.BLOCK)
        assert (hit.decision, hit.label) == (Decision.REVIEW, "violence.gore")
        assert (hit.entry_id, hit.match, hit.distance) == (entry, MatchKind.PDQ, 7)

    def test_of_a_film_the_nearest_frame_is_told(self, db: Database) -> None:
        bank = a_bank(db, distance=10)
        (entry,) = add(db, bank, LOOK)
        frames = [
            Frame(1.0, turned(PDQ, 9)),
            Frame(2.5, turned(PDQ, 3)),
            Frame(3.0, PDQ, quality=49),
            Frame(4.0, turned(PDQ, 3)),
        ]
        (hit,) = Lists().near_frames(db, "default", frames).hits
        assert (hit.entry_id, hit.distance, hit.time_s) == (entry, 3, 2.5)
        assert Lists().near_frames(db, "default", [Frame(1.0, turned(PDQ, 11))]).hits == ()

    def test_threads_read_it_once_and_right(self, db: Database) -> None:
        memory = Lists()
        bank = a_bank(db)
        added = add(db, bank, *(NewEntry(MatchKind.PDQ, f"{n:064x}") for n in range(300)))
        found = together(lambda _: len(memory.near(db, "default", "0" * 64).hits), 6)
        assert found == [len(added)] * 6

    def test_what_is_renewed_again_and_again_does_not_fill_the_memory(
        self, db: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listed, "SPARE", 4)
        memory, bank = Lists(), a_bank(db)
        for turn in range(1, 30):
            (entry,) = add(db, bank, LOOK, expires=later(100 + turn))
            assert self.near(memory, db) == [(entry, 0)]
            (kept,) = memory._kept.values()
            assert len(kept.index) <= 8

    def test_what_has_expired_is_not_read(self, db: Database) -> None:
        memory, bank = Lists(), a_bank(db)
        add(db, bank, LOOK, expires=later(5))
        assert memory.near(db, "default", PDQ, now=later(6)).hits == ()
        (kept,) = memory._kept.values()
        assert len(kept.index) == 0
        (entry,) = add(db, bank, LOOK, now=later(7))
        assert [hit.entry_id for hit in memory.near(db, "default", PDQ, now=later(8)).hits] == [
            entry
        ]
