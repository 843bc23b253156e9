"""Lists and near-duplicates in the console."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from moderation.known import MatchKind
from moderation.store import alike, decisions, items, jobs, list_entries, lists, reviews
from moderation.store.list_records import EntryRow
from moderation.store.review_records import Role
from moderation.store.submit import submit
from moderation.types import Decision
from tests.contract.store_data import new_item, result_for
from tests.fakes.browsing import Browser, signed_in, waiting
from tests.fakes.gateway import Gate, running

PDQ = "ab" * 32


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def page(answer: httpx.Response, status: int = 200) -> str:
    assert answer.status_code == status, answer.text
    return answer.text


def made(lead: Browser, name: str = "bad", decision: str = "block", **form: str) -> str:
    """A bank; its id."""
    fields = {"name": name, "decision": decision, "label": "violence.gore", "distance": "31"}
    answer = lead.post("/console/lists", fields | form)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].rpartition("/")[2]


def entries(gate: Gate, bank_id: str) -> list[EntryRow]:
    return list(list_entries.entries_of(gate.stack.db, "default", bank_id).entries)


def seen(gate: Gate, content: object, pdq: str, quality: int = 100) -> str:
    """An item of a picture that looks so, and waits."""
    db = gate.stack.db
    found = submit(db, new_item(content))
    claim = jobs.claim(db, found.job_id, owner="w", lease_s=30.0)
    assert claim is not None
    result = replace(result_for(claim, Decision.REVIEW), pdq=pdq, pdq_quality=quality)
    assert jobs.finish(db, claim, result)
    return found.item_id


def turned(bits: int) -> str:
    """PDQ with so many bits turned."""
    return f"{int(PDQ, 16) ^ ((1 << bits) - 1):064x}"


def test_a_list_is_made_changed_and_deleted_by_who_leads(gate: Gate) -> None:
    lead = signed_in(gate, "lea", Role.LEAD)
    bank = made(lead)
    assert ">bad</a>" in page(lead.get("/console/lists"))
    form = {"name": "worse", "decision": "review", "label": "violence.gore", "distance": "5"}
    assert lead.post(f"/console/lists/{bank}", form).status_code == 303
    row = lists.get_bank(gate.stack.db, "default", bank)
    assert (row.name, row.decision, row.distance, row.enabled) == ("worse", "review", 5, False)
    page(lead.post(f"/console/lists/{bank}", form | {"distance": "32"}), 422)
    page(lead.post(f"/console/lists/{bank}", form | {"distance": "-1"}), 422)
    page(lead.post(f"/console/lists/{bank}", form | {"decision": "pass"}), 422)
    page(lead.post("/console/lists", form), 409)
    page(lead.post("/console/lists", form | {"name": "x", "decision": "block", "label": ""}), 422)
    assert lead.post(f"/console/lists/{bank}", {"act": "delete"}).status_code == 303
    page(lead.get(f"/console/lists/{bank}"), 404)


def test_hashes_are_added_line_by_line_and_removed(gate: Gate) -> None:
    lead = signed_in(gate, "lea", Role.LEAD)
    bank = made(lead)
    text = f"{'1' * 64},first\nnonsense\n{'2' * 64}\n{'1' * 64}\n"
    form = {"match": "sha256", "hashes": text, "days": "7"}
    html = page(lead.post(f"/console/lists/{bank}/entries", form))
    assert "Added: 2. There already: 1. Not usable: 1." in html
    assert "Line 2" in html
    first = next(one for one in entries(gate, bank) if one.note == "first")
    assert (first.match, first.value, first.expires is None) == ("sha256", "1" * 64, False)
    for days in ("0", "x", "99999"):
        page(lead.post(f"/console/lists/{bank}/entries", form | {"days": days}), 422)
    assert lead.post(f"/console/lists/{bank}/entries/{first.id}/remove").status_code == 303
    assert [one.value for one in entries(gate, bank)] == ["2" * 64]


def test_as_many_hashes_as_the_form_takes_are_read(gate: Gate) -> None:
    lead = signed_in(gate, "lea", Role.LEAD)
    bank = made(lead)
    lines = [f"{number:064x},见过" for number in range(940)]
    # As browsers send them, and count them: a line's end is one character.
    assert len("\n".join(lines)) < 64_000 < len("\r\n".join(lines))
    form = {"match": "sha256", "hashes": "\r\n".join(lines)}
    page(lead.post(f"/console/lists/{bank}/entries", form))
    row = lists.get_bank(gate.stack.db, "default", bank)
    assert row.entries == 940
    assert {one.note for one in entries(gate, bank)} == {"见过"}


def test_a_decision_puts_the_picture_on_a_list(gate: Gate) -> None:
    db = gate.stack.db
    item = seen(gate, 1, PDQ)
    lead, anna = signed_in(gate, "lea", Role.LEAD), signed_in(gate, "anna", Role.REVIEWER)
    bank = made(lead)
    anna.post("/console/next")
    html = page(anna.get(f"/console/items/{item}"))
    assert f'<option value="{bank}">bad' in html
    form = {
        "action": "block",
        "label": "violence.gore",
        "bank": bank,
        "scope": "looks",
        "days": "30",
        "list_note": "seen twice",
    }
    assert anna.post(f"/console/items/{item}/decision", form).status_code == 303
    assert {(one.match, one.source, one.note) for one in entries(gate, bank)} == {
        (MatchKind.SHA256, item, "seen twice"),
        (MatchKind.PDQ, item, "seen twice"),
    }
    # The very next upload of the same bytes is held against it.
    again = submit(db, new_item(1))
    assert again.verdict is not None
    assert (again.verdict.decision, again.verdict.decided_by) == ("block", "list")


def test_what_cannot_be_listed_is_told_before_anything_is_decided(gate: Gate) -> None:
    item = seen(gate, 1, PDQ, quality=10)
    lead, anna = signed_in(gate, "lea", Role.LEAD), signed_in(gate, "anna", Role.REVIEWER)
    bank = made(lead)
    anna.post("/console/next")
    form = {"action": "block", "label": "violence.gore", "bank": bank, "scope": "looks"}
    assert "too plain" in page(anna.post(f"/console/items/{item}/decision", form), 422)
    assert decisions.of_item(gate.stack.db, "default", item) == []
    assert anna.post(f"/console/items/{item}/list", form | {"scope": "bytes"}).status_code == 303
    (entry,) = entries(gate, bank)
    assert entry.match is MatchKind.SHA256
    page(anna.post(f"/console/items/{item}/list", {"bank": "bank_" + "0" * 32}), 422)


def test_a_hash_or_an_item_is_looked_up(gate: Gate) -> None:
    item = seen(gate, 1, PDQ)
    lead = signed_in(gate, "lea", Role.LEAD)
    bank = made(lead)
    lead.post(f"/console/lists/{bank}/entries", {"match": "pdq", "hashes": f"{turned(3)},<b>"})
    for asked in (PDQ.upper(), item):
        html = " ".join(page(lead.get(f"/console/lists?look_up={asked}")).split())
        assert "<td>pdq</td><td>3</td>" in html, asked
        assert "&lt;b&gt;" in html
        assert '<span class="tag block">block</span></h2>' in html
    assert "nothing</h2>" in page(lead.get(f"/console/lists?look_up={'0' * 64}"))
    page(lead.get("/console/lists?look_up=nonsense"), 422)
    page(lead.get(f"/console/lists?look_up=item_{'0' * 32}"), 404)


def test_what_waits_and_looks_alike_is_decided_at_once(gate: Gate) -> None:
    db = gate.stack.db
    item, near, claimed = seen(gate, 1, PDQ), seen(gate, 2, turned(4)), seen(gate, 3, turned(9))
    far, plain = seen(gate, 4, turned(80)), seen(gate, 5, PDQ, quality=10)
    waiting(db, 6)  # nobody knows how it looks
    found = alike.waiting_like(db, "default", item)
    assert [one.item_id for one in found] == [near, claimed]
    assert found[0].likeness == pytest.approx(1 - 4 / 256)
    assert alike.waiting_like(db, "default", plain) == []
    reviewer, lead = signed_in(gate, "anna", Role.REVIEWER), signed_in(gate, "lea", Role.LEAD)
    reviews.claim(db, "default", "somebody", claimed)
    html = page(lead.get(f"/console/items/{item}/alike"))
    assert set(re.findall(r'name="chosen" value="(\w+)"', html)) == {near, claimed}
    assert "Who leads may decide" in page(reviewer.get(f"/console/items/{item}/alike"))
    form = {"action": "block", "label": "violence.gore", "chosen": [near, claimed]}
    page(lead.post(f"/console/items/{item}/alike", form), 422)  # without having seen them
    html = page(lead.post(f"/console/items/{item}/alike", form | {"sure": "1"}))
    assert "Decided: 2" in html
    assert claimed in html
    assert "Somebody else is looking" in html
    told = {
        key: (row.verdict.decision, row.verdict.decided_by)
        for key, row in items.by_ids(db, "default", [item, near, claimed, far]).items()
        if row.verdict is not None
    }
    assert told == {
        item: ("block", "person"),
        near: ("block", "person"),
        claimed: ("review", "policy"),
        far: ("review", "policy"),
    }
    assert {item, near} <= set(gate.stack.waker.woken)
    assert "Nothing that waits" in page(lead.get(f"/console/items/{far}/alike"))
