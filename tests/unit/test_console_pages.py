"""What the console shows and does: decisions, filters, words; and text that stays text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from api.console import links
from api.console.access import Visitor
from api.console.words import translations
from moderation.errors import NotFoundError
from moderation.labels import LABELS
from moderation.store import accounts, audits, decisions, items, reviews
from moderation.store.review_records import AccountRow, Role
from tests.fakes.browsing import Browser, audited, person, signed_in, waiting
from tests.fakes.gateway import Gate, running

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def page(answer: httpx.Response, status: int = 200) -> str:
    assert answer.status_code == status, answer.text
    return answer.text


def led(answer: httpx.Response) -> str:
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


class Elements(HTMLParser):
    """Names of all elements, and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


PAGES = [
    "/queue",
    "/items/{item}",
    "/streams",
    "/account",
    "/users",
    "/audit",
    "/insight",
    "/policies",
    "/policies/default",
    "/export",
    "/retention",
    "/nothing",
    "/queue?state=all",
]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_people_wrote_is_shown_as_text_on_every_page(gate: Gate, language: str) -> None:
    item = waiting(gate.stack.db, 1, source=SCRIPT, data_id=SCRIPT)
    admin = signed_in(gate, "root", Role.ADMIN)
    admin.post(f"/console/items/{item}/claim")
    admin.post(f"/console/items/{item}/decision", {"action": "escalate", "note": SCRIPT})
    admin.post("/console/views?source=x", {"name": SCRIPT[:40]})
    for path in PAGES:
        answer = admin.get(f"/console{path.format(item=item)}", **{"Accept-Language": language})
        html = page(answer, 404 if path == "/nothing" else 200)
        for name, attributes in Elements(html).found:
            assert name != "script" or (attributes.get("src") or "").startswith("/console/static/")
            assert not any(key.startswith("on") for key in attributes), (path, attributes)
            assert "style" not in attributes, (path, attributes)
            for key in ("src", "href", "action", "poster"):
                assert (attributes.get(key) or "/console").startswith(("/console", "#")), path
        assert "<script>alert" not in html
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    assert SCRIPT.partition('"')[0].replace("<", "&lt;").replace(">", "&gt;") in page(
        admin.get(f"/console/items/{item}")
    )


def test_claim_decide_undo(gate: Gate) -> None:
    db = gate.stack.db
    first, second = waiting(db, 1, 0.9), waiting(db, 2, 0.6)
    anna = signed_in(gate, "anna", Role.REVIEWER)
    assert led(anna.post("/console/next?kind=image")) == f"/console/items/{first}?kind=image"
    assert "Block for" in page(anna.get(f"/console/items/{first}"))
    form = {
        "action": "block",
        "label": "porn.explicit",
        "note": "seen before",
        "known": ["porn.explicit"],
        "right:porn.explicit": "yes",
    }
    on = led(anna.post(f"/console/items/{first}/decision?kind=image", form))
    (made,) = decisions.of_item(db, "default", first)
    assert on == f"/console/items/{second}?kind=image&undo={made.id}"
    assert (made.action, made.label, made.note) == ("block", "porn.explicit", "seen before")
    assert made.labels == {"porn.explicit": "confirmed"}
    verdict = items.get_item(db, "default", first).verdict
    assert verdict is not None
    assert (verdict.decision, verdict.decided_by) == ("block", "person")
    assert f"/console/decisions/{made.id}/undo?kind=image" in page(anna.get(on))
    assert led(anna.post(f"/console/decisions/{made.id}/undo")) == f"/console/items/{first}"
    verdict = items.get_item(db, "default", first).verdict
    assert verdict is not None
    assert verdict.decision == "review"
    assert gate.stack.waker.woken.count(first) == 2


def test_an_address_makes_no_form_of_another_path(gate: Gate) -> None:
    item = waiting(gate.stack.db, 1)
    anna = signed_in(gate, "anna", Role.REVIEWER)
    for path in ("/console/queue", f"/console/items/{item}"):
        for told in ("../sign-out%3F", "decision_1", "decision_" + "0" * 32 + "%0A", "%2F"):
            assert "toast" not in page(anna.get(f"{path}?undo={told}")), told
        assert "toast" in page(anna.get(f"{path}?undo=decision_{'0' * 32}"))


def test_files_are_kept_for_good_under_their_own_version_alone(gate: Gate) -> None:
    anna = signed_in(gate, "anna", Role.VIEWER)
    (script,) = re.findall(
        r'src="(/console/static/console.js\?v=\w+)"', page(anna.get("/console/queue"))
    )
    assert "immutable" in anna.get(script).headers["cache-control"]
    for other in (script[:-1], script.partition("?")[0], f"{script}0"):
        answer = anna.get(other)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_a_pass_has_no_label(gate: Gate) -> None:
    item = waiting(gate.stack.db, 1)
    anna = signed_in(gate, "anna", Role.REVIEWER)
    anna.post("/console/next")
    on = led(anna.post(f"/console/items/{item}/decision", {"action": "pass", "label": "a.b"}))
    assert on.startswith("/console/queue?undo=decision_")
    assert "Nothing waits" in page(anna.get(on))
    (made,) = decisions.of_item(gate.stack.db, "default", item)
    assert (made.action, made.label) == ("pass", None)


@pytest.mark.parametrize(
    "form",
    [
        {"action": "delete"},
        {"action": ""},
        {"action": "block", "label": "no label"},
        {"action": "pass", "known": "<b>", "right:<b>": "yes"},
        {"action": "pass", "note": "x" * 2001},
        {"action": "pass", "note": "\0"},
    ],
)
def test_what_is_no_decision_decides_nothing(gate: Gate, form: dict[str, str]) -> None:
    item = waiting(gate.stack.db, 1)
    anna = signed_in(gate, "anna", Role.REVIEWER)
    anna.post("/console/next")
    page(anna.post(f"/console/items/{item}/decision", form), 422)
    assert decisions.of_item(gate.stack.db, "default", item) == []


def test_two_people_never_have_the_same_item(gate: Gate) -> None:
    db = gate.stack.db
    made = {waiting(db, number) for number in range(4)}
    anna, ben = (signed_in(gate, name, Role.REVIEWER) for name in ("anna", "ben"))
    hers = led(anna.post("/console/next")).rpartition("/")[2]
    his = led(ben.post("/console/next")).rpartition("/")[2]
    assert hers != his
    ahead = anna.post(f"/console/items/{hers}/ahead")
    assert page(ahead).count("/console/media/") == 2
    (coming,) = {key for key in made if key in ahead.text}
    assert coming not in (hers, his)
    assert "Somebody else" in page(
        ben.post(f"/console/items/{hers}/decision", {"action": "pass"}), 409
    )
    assert "Claimed by anna" in " ".join(page(ben.get(f"/console/items/{hers}")).split())
    lead = signed_in(gate, "lea", Role.LEAD)
    assert led(lead.post(f"/console/items/{hers}/take-over")) == f"/console/items/{hers}"
    page(anna.post(f"/console/items/{hers}/decision", {"action": "pass"}), 409)


def test_skipping_goes_on_behind_and_frees_it(gate: Gate) -> None:
    db = gate.stack.db
    first, second = waiting(db, 1, 0.9), waiting(db, 2, 0.6)
    anna = signed_in(gate, "anna", Role.REVIEWER)
    anna.post("/console/next")
    assert led(anna.post(f"/console/items/{first}/skip")) == f"/console/items/{second}"
    row = reviews.get(db, "default", first)
    assert row is not None
    assert row.claimed_by is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 2),
        ("state=open&label=&kind=&source=&min_score=&since=&escalated=", 2),
        ("label=porn.explicit", 2),
        ("label=violence.gore", 0),
        ("source=feed", 1),
        ("min_score=0.7", 1),
        ("decision=review", 2),
        ("decision=block", 0),
        ("since=2099-01-01T00:00", 0),
        ("until=2099-01-01", 2),
        ("data_id=%3Cb%3E", 1),
        ("state=decided", 0),
        (f"sha256={'A' * 64}", 0),
    ],
)
def test_filters(gate: Gate, query: str, found: int) -> None:
    waiting(gate.stack.db, 1, 0.6, source="feed")
    waiting(gate.stack.db, 2, 0.8, data_id="<b>")
    viewer = signed_in(gate, "vera", Role.VIEWER)
    assert page(viewer.get(f"/console/queue?{query}")).count('class="card"') == found


@pytest.mark.parametrize(
    "query",
    ["state=x", "min_score=2", "min_score=nan", "since=yesterday", "label=<b>", "sha256=1"],
)
def test_a_filter_that_cannot_be_read_is_named(gate: Gate, query: str) -> None:
    viewer = signed_in(gate, "vera", Role.VIEWER)
    assert query.partition("=")[0] in page(viewer.get(f"/console/queue?{query}"), 422)


def test_views_are_kept_by_name(gate: Gate) -> None:
    viewer = signed_in(gate, "vera", Role.VIEWER)
    viewer.post("/console/views?label=porn.explicit&min_score=0.5", {"name": "grave"})
    html = page(viewer.get("/console/queue"))
    assert 'href="/console/queue?label=porn.explicit&amp;min_score=0.5"' in html
    viewer.post("/console/account/preferences", {"size": "40", "softness": "5", "break_min": "0"})
    assert "grave" in page(viewer.get("/console/queue"))
    viewer.post("/console/views", {"name": "grave", "forget": "1"})
    assert "grave" not in page(viewer.get("/console/queue"))


def test_the_grid_is_shown_in_pages(gate: Gate) -> None:
    for number in range(27):
        waiting(gate.stack.db, number)
    viewer = signed_in(gate, "vera", Role.VIEWER)
    html = page(viewer.get("/console/queue"))
    assert html.count('class="card"') == 24
    following = re.search(r'href="([^"]+after=[^"]+)"', html)
    assert following is not None
    assert page(viewer.get(following[1])).count('class="card"') == 3


def test_media_are_veiled_until_somebody_says_otherwise(gate: Gate) -> None:
    item = waiting(gate.stack.db, 1)
    viewer = signed_in(gate, "vera", Role.VIEWER)
    html = page(viewer.get(f"/console/items/{item}"))
    clear = [dict(attrs) for name, attrs in Elements(html).found if name == "image"]
    assert [("href" in one, "data-href" in one) for one in clear] == [(True, False), (False, True)]
    assert "-blur.webp" in (clear[0]["href"] or "")
    assert re.search(r'class="look [^"]*veiled grey', html)
    form = {"size": "100", "softness": "3", "break_min": "30", "theme": "dark", "language": "zh"}
    assert led(viewer.post("/console/account/preferences", form)) == "/console/account?saved=1"
    html = page(viewer.get(f"/console/items/{item}"))
    assert re.search(r'class="look size-100 soft-3"', html)
    assert 'data-theme="dark"' in html
    assert 'lang="zh-Hans"' in html
    page(viewer.post("/console/account/preferences", form | {"size": "1000"}), 422)


def test_lifting_the_veil_is_counted_and_kept(gate: Gate) -> None:
    item = waiting(gate.stack.db, 1)
    viewer = signed_in(gate, "vera", Role.VIEWER)
    for _ in range(2):
        assert viewer.post(f"/console/items/{item}/reveal").status_code == 204
    account = accounts.named(gate.stack.db, "vera")
    since = datetime.now(UTC) - timedelta(hours=1)
    assert audits.exposure(gate.stack.db, "default", account.id, since=since) == 1
    rows = audits.page(gate.stack.db, "default", actor=account.id, action="item.")
    assert [row.action for row in rows] == ["item.reveal", "item.reveal"]
    lead = signed_in(gate, "lea", Role.LEAD)
    html = page(lead.get("/console/audit?actor=vera&action=item.reveal"))
    assert html.count("<td>item.reveal</td>") == 2
    assert "sign_in" not in html


def test_users_are_made_changed_and_kept_out(gate: Gate) -> None:
    admin = signed_in(gate, "root", Role.ADMIN)
    html = page(admin.post("/console/users", {"name": "nina", "role": "reviewer"}))
    made = re.search(r"<code data-made>([^<]+)</code>", html)
    assert made is not None
    nina = Browser(gate)
    assert nina.sign_in("nina", made[1]).status_code == 303
    assert made[1] not in page(admin.get("/console/users"))
    page(admin.post("/console/users", {"name": "nina", "role": "viewer"}), 409)
    page(admin.post("/console/users", {"name": "Nina!", "role": "viewer"}), 422)
    page(admin.post("/console/users", {"name": "omar", "role": "king"}), 422)
    user = f"/console/users/{accounts.named(gate.stack.db, 'nina').id}"
    assert led(admin.post(user, {"role": "lead"})) == "/console/users"
    assert accounts.named(gate.stack.db, "nina").role is Role.LEAD
    root = f"/console/users/{accounts.named(gate.stack.db, 'root').id}"
    page(admin.post(root, {"role": "viewer"}), 409)  # the last one


def test_an_admin_deletes_an_item_when_sure(gate: Gate) -> None:
    item = waiting(gate.stack.db, 1)
    admin, lead = signed_in(gate, "root", Role.ADMIN), signed_in(gate, "lea", Role.LEAD)
    page(lead.post(f"/console/items/{item}/delete", {"sure": "1"}), 403)
    page(admin.post(f"/console/items/{item}/delete"), 422)
    assert led(admin.post(f"/console/items/{item}/delete", {"sure": "1"})) == "/console/queue"
    page(admin.get(f"/console/items/{item}"), 404)
    html = page(admin.get("/console/audit?action=item.delete"))
    assert item in html


def test_an_audit_is_told_apart_in_queue_and_item(gate: Gate) -> None:
    db = gate.stack.db
    drawn, asked = audited(db, 1), waiting(db, 2)
    anna = signed_in(gate, "anna", Role.REVIEWER)
    html = page(anna.get("/console/queue"))
    assert html.index(asked) < html.index(drawn)
    assert html.count('class="tag audit"') == 1
    assert "<b>1</b> open" in html
    assert "<b>1</b> to be audited" in html
    for query, found in (("audit=true", drawn), ("audit=false", asked)):
        html = page(anna.get(f"/console/queue?{query}"))
        assert html.count('class="card"') == 1
        assert found in html
    assert led(anna.post("/console/next?audit=true")) == f"/console/items/{drawn}?audit=true"
    html = page(anna.get(f"/console/items/{drawn}"))
    assert 'class="tag audit"' in html
    assert "drawn by lot" in html
    assert 'value="pass"' in html
    assert "drawn by lot" not in page(anna.get(f"/console/items/{asked}"))


def test_what_audits_found_is_told_in_words_and_numbers(gate: Gate) -> None:
    db = gate.stack.db
    lead = signed_in(gate, "lea", Role.LEAD)
    for number in range(3):
        audited(db, number, drawn=False)
    assert "No pass was audited: MODERATION_AUDIT_SHARE is 0." in page(lead.get("/console/insight"))
    items_ = [audited(db, number) for number in range(10, 14)]
    html = page(lead.get("/console/insight"))
    assert "4 passes wait for an audit; none was decided yet." in html
    for item in items_[:2]:
        lead.post(f"/console/items/{item}/claim")
    block = {"action": "block", "label": "violence.gore"}
    lead.post(f"/console/items/{items_[0]}/decision", block)
    lead.post(f"/console/items/{items_[1]}/decision", {"action": "pass"})
    html = " ".join(page(lead.get("/console/insight")).split())
    told = (
        "People decided 2 of the passes that were drawn for an audit; 2 wait. The policy passed 7"
    )
    assert told in html
    # 1 of 2; by Wilson 9.45 % to 90.55 %; of seven.
    row = "<td>1</td><td>50.00 %</td><td>9.45 % – 90.55 %</td><td>4 (1 – 6)</td>"
    assert f'<th scope="row">any</th>{row}' in html
    assert f'<th scope="row">Gore</th>{row}' in html


def test_scores_are_drawn_beside_those_of_before(gate: Gate) -> None:
    db = gate.stack.db
    lead = signed_in(gate, "lea", Role.LEAD)
    assert "Nothing was scored" in page(lead.get("/console/insight"))
    waiting(db, 1)
    html = page(lead.get("/console/insight"))
    assert html.count('class="drift"') == 2
    assert "0 → 1" in html
    assert "too few to tell" in html
    assert "b@2" in html


class TestLinks:
    def visitor(self, secret: str) -> Visitor:
        account = AccountRow(
            "user_1", "default", "anna", Role.VIEWER, False, None, {}, datetime.now(UTC), None
        )
        return Visitor(account, "key", secret)

    def parts(self, path: str) -> tuple[str, str, str]:
        token, item, name = path.removeprefix("/console/media/").split("/")
        return token, item, name

    def test_an_address_is_good_for_its_session_and_ten_minutes(self) -> None:
        anna, ben = self.visitor("s"), self.visitor("t")
        path = links.media(anna, "item_1", "picture.webp", now=1000.0)
        assert path == links.media(anna, "item_1", "picture.webp", now=1100.0)
        token, item, name = self.parts(path)
        links.check(anna, token, item, name, now=1000.0)
        links.check(anna, token, item, name, now=1600.0)
        for who, tried, when in (
            (anna, (token, item, name), 2400.0),
            (ben, (token, item, name), 1000.0),
            (anna, (token, "item_2", name), 1000.0),
            (anna, (token, item, "picture-blur.webp"), 1000.0),
            (anna, (token.replace("1800", "9999999999"), item, name), 1000.0),
            (anna, ("", item, name), 1000.0),
            (anna, ("١-é", item, name), 1000.0),
        ):
            with pytest.raises(NotFoundError):
                links.check(who, *tried, now=when)

    def test_over_http(self, gate: Gate) -> None:
        item = waiting(gate.stack.db, 1)
        anna, ben = (signed_in(gate, name, Role.VIEWER) for name in ("anna", "ben"))
        html = page(anna.get(f"/console/items/{item}"))
        address = re.search(r'"(/console/media/[^"]+/picture-blur\.webp)"', html)
        assert address is not None
        person(gate.stack.db, "nobody", Role.VIEWER)
        assert page(ben.get(address[1]), 404)
        assert led(Browser(gate).get(address[1])).startswith("/console/sign-in")
        gateway = gate.stack.app.state.gateway
        gateway.stopping.set()  # nobody makes it here: the answer need not be waited for
        assert anna.get(address[1]).status_code == 202


TEMPLATES = sorted(files("api.console").joinpath("templates").iterdir(), key=str)


def test_every_word_has_a_translation_and_no_translation_is_left_over() -> None:
    used: set[str] = set()
    for template in TEMPLATES:
        used |= set(re.findall(r"_\('((?:[^'\\]|\\.)*)'\)", template.read_text(encoding="utf-8")))
    chinese, english = translations("zh"), translations("en")
    assert used - set(chinese) == set()
    assert {one.name for one in LABELS} - set(english) == set()
    assert set(english) - set(chinese) == set()
    for role in Role:
        assert role.value in chinese
    for words in chinese.values():
        assert words.strip()


def test_no_word_stands_in_a_template_untranslated() -> None:
    for template in TEMPLATES:
        text = template.read_text(encoding="utf-8")
        text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", text, flags=re.DOTALL)
        assert set(re.findall(r"[A-Za-z]{3,}", text)) <= {"moderation", "PDQ", "sha", "data"}, (
            template.name
        )
