"""Policies in the console: tried, published, watched in shadow, restored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.policy import Policy
from moderation.store import releases
from moderation.store.review_records import Role
from tests.contract.test_store_policies import judge
from tests.fakes.browsing import signed_in
from tests.fakes.gateway import Gate, running

PAGE = "/console/policies/default"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def page(answer: httpx.Response, status: int = 200) -> str:
    assert answer.status_code == status, answer.text
    return answer.text


def in_force(gate: Gate) -> Policy:
    gateway: Any = gate.stack.app.state.gateway
    found: Policy = gateway.policies.of(gate.stack.db, "default")["default"]
    return found


def fields(html: str) -> dict[str, Any]:
    """The form of the rules as a browser would send it."""
    form = html[html.index('<form class="sheet wide rules"') :]
    form = form[: form.index("</form>")]
    sent: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name = re.search(r'name="([^"]*)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        assert name is not None
        if 'type="checkbox"' in tag and " checked" not in tag:
            continue
        sent.setdefault(name[1], []).append(unescape(value[1]) if value else "")
    for name, options in re.findall(r'<select name="([^"]*)"[^>]*>(.*?)</select>', form, re.S):
        chosen = re.search(r'<option value="([^"]*)" selected', options)
        first = re.search(r'<option value="([^"]*)"', options)
        assert first is not None
        sent[name] = [(chosen or first)[1]]
    sent.pop("csrf")
    return {name: values if len(values) > 1 else values[0] for name, values in sent.items()}


def place(sent: dict[str, Any], label: str) -> str:
    return str(sent["label"].index(label))


def test_a_draft_is_the_policy_until_somebody_changes_it(gate: Gate) -> None:
    lead = signed_in(gate, "lea", Role.LEAD)
    before = in_force(gate)
    sent = fields(page(lead.get(PAGE)))
    assert sent["label"] == [rule.label for rule in before.rules]
    html = page(lead.post(f"{PAGE}/publish", sent), 422)
    assert "These are the rules of" in html
    assert fields(html) == sent


def test_a_change_is_tried_then_published_then_taken_back(gate: Gate) -> None:
    before = in_force(gate)
    for number in range(40):
        judge(gate.stack.db, number, before)
    lead = signed_in(gate, "lea", Role.LEAD)
    sent = fields(page(lead.get(PAGE)))
    at = place(sent, "porn.explicit")
    sent |= {f"{at}.review_at": "0.2", f"{at}.block_at": "0.25", "note": "<b>stricter</b>"}
    html = page(lead.post(f"{PAGE}/what-if", sent))
    assert fields(html) == sent
    told = re.search(r"<b>(\d+)</b> of 40 items would be decided differently", html)
    assert told is not None
    assert int(told[1]) > 10
    assert "40 of 40 items that this very version judged come out as they did then." in html
    assert re.search(r'href="/console/items/item_[0-9a-f]{32}"', html)
    assert in_force(gate) == before
    answer = lead.post(f"{PAGE}/publish", sent)
    assert answer.headers["location"] == f"{PAGE}?published={before.version + 1}"
    (rule,) = (rule for rule in in_force(gate).rules if rule.label == "porn.explicit")
    assert (rule.review_at, rule.block_at) == (0.2, 0.25)
    raw = lead.get(PAGE).text
    assert "&lt;b&gt;stricter&lt;/b&gt;" in raw
    assert "<code>review_at</code>: 0.7 → 0.2" in raw
    # Who has seen the old version alone is told, and what he typed is kept.
    html = page(lead.post(f"{PAGE}/publish", sent | {f"{at}.review_at": "0.1"}), 409)
    assert fields(html)[f"{at}.review_at"] == "0.1"
    back = lead.post(f"{PAGE}/roll-back", {"version": str(before.version)})
    assert back.status_code == 303
    assert in_force(gate).rules == before.rules
    assert f"as version {before.version}" in page(lead.get(PAGE))
    page(lead.post(f"{PAGE}/roll-back", {"version": "77"}), 404)
    page(lead.post(f"{PAGE}/roll-back", {"version": "x"}), 422)


def test_rules_come_and_go(gate: Gate) -> None:
    lead = signed_in(gate, "lea", Role.LEAD)
    sent = fields(page(lead.get(PAGE)))
    at = place(sent, "violence.fire")
    form = sent | {f"{at}.remove": "1"}
    assert lead.post(f"{PAGE}/publish", form).status_code == 303
    assert "violence.fire" not in {rule.label for rule in in_force(gate).rules}
    sent = fields(page(lead.get(PAGE)))
    form = sent | {"new.label": "violence.fire", "new.block_at": "0.5", "new.optional": "1"}
    assert lead.post(f"{PAGE}/publish", form).status_code == 303
    rule = in_force(gate).rules[-1]
    assert (rule.label, rule.review_at, rule.block_at) == ("violence.fire", None, 0.5)
    assert (rule.optional, rule.min_frames, rule.window) == (True, 2, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"0.review_at": "nonsense"}, "nonsense is not a number"),
        ({"0.review_at": "0.99"}, "review_at is above block_at"),
        ({"0.review_at": "2"}, "less than or equal to 1"),
        ({"0.review_at": "nan"}, "number"),
        ({"0.window": "1.5"}, "1.5 is not a number"),
        ({"0.review_at": "", "0.block_at": ""}, "has no threshold"),
        ({"on_failure": "maybe"}, "on_failure"),
        ({"last": "0"}, "1 to 50000 items"),
        ({"last": "many"}, "1 to 50000 items"),
        ({"new.label": "Nonsense!", "new.review_at": "0.5"}, "String should match"),
    ],
)
def test_what_cannot_be_tried_is_told_beside_what_was_typed(
    gate: Gate, change: dict[str, str], words: str
) -> None:
    lead = signed_in(gate, "lea", Role.LEAD)
    sent = fields(page(lead.get(PAGE))) | change
    html = page(lead.post(f"{PAGE}/what-if", sent), 422)
    assert words in html
    assert 'role="alert"' in html
    if "new.label" not in change:
        assert fields(html) | {"on_failure": ""} == sent | {"on_failure": ""}


def test_empty_fields_have_the_usual_values(gate: Gate) -> None:
    lead = signed_in(gate, "lea", Role.LEAD)
    sent = fields(page(lead.get(PAGE))) | {"0.evidence_at": "", "0.window": "", "0.min_frames": ""}
    assert lead.post(f"{PAGE}/publish", sent).status_code == 303
    rule = in_force(gate).rules[0]
    assert (rule.evidence_at, rule.min_frames, rule.window) == (0.3, 1, 1)


def test_rules_in_shadow(gate: Gate) -> None:
    before = in_force(gate)
    judge(gate.stack.db, 1, before)
    lead, viewer = signed_in(gate, "lea", Role.LEAD), signed_in(gate, "vera", Role.VIEWER)
    sent = fields(page(lead.get(PAGE))) | {"0.review_at": "0.01", "0.block_at": "0.02"}
    assert lead.post(f"{PAGE}/shadow", sent).status_code == 303
    assert in_force(gate) == before
    assert set(releases.shadows(gate.stack.db, "default")) == {"default"}
    assert "rules in shadow" in page(viewer.get("/console/policies"))
    html = page(viewer.get(f"{PAGE}?shadow=1"))
    assert "What the rules in shadow would have decided" in html
    # The item came before they were watched.
    assert "Nothing that can be decided again" in html
    assert fields(page(lead.get(f"{PAGE}?shadow=1")))["0.review_at"] == "0.01"
    page(lead.post(f"{PAGE}/shadow", sent | {"0.review_at": "x"}), 422)
    assert lead.post(f"{PAGE}/shadow/end").status_code == 303
    page(lead.post(f"{PAGE}/shadow/end"), 404)


def test_who_looks_changes_nothing(gate: Gate) -> None:
    viewer = signed_in(gate, "vera", Role.VIEWER)
    html = page(viewer.get(PAGE))
    for word in ("What would change?", "Publish as version", "Watch in shadow"):
        assert word not in html
    for path in ("what-if", "publish", "shadow", "shadow/end", "roll-back"):
        page(viewer.post(f"{PAGE}/{path}", {}), 403)


def test_there_is_no_such_policy(gate: Gate) -> None:
    lead = signed_in(gate, "lea", Role.LEAD)
    sent = fields(page(lead.get(PAGE)))
    for path in ("none", "No!", "default/none"):
        page(lead.get(f"/console/policies/{path}"), 404)
    page(lead.get(f"{PAGE}?version=99"), 404)
    for act in ("what-if", "publish", "shadow"):
        page(lead.post(f"/console/policies/none/{act}", sent), 404)
