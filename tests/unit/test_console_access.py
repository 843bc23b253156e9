"""Who gets into the console, and how far: every route with every role, and no forged request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from api import console
from api.console.access import PATH
from moderation.store import accounts, reviews
from moderation.store.review_records import ReviewFilter, Role
from tests.fakes.browsing import PASSWORD, Browser, person, signed_in, waiting
from tests.fakes.gateway import Gate, running

OPEN = {
    ("GET", "/console"),
    ("GET", "/console/"),
    ("GET", "/console/sign-in"),
    ("POST", "/console/sign-in"),
    ("GET", "/console/sign-in/provider"),
    ("GET", "/console/sign-in/back"),
    ("GET", "/console/static/{name}"),
}
IDS = {
    "item_id": "item_" + "0" * 32,
    "decision_id": "decision_" + "0" * 32,
    "account_id": "user_" + "0" * 32,
    "stream_id": "stream_" + "0" * 32,
    "policy_id": "none",
    "bank_id": "bank_" + "0" * 32,
    "entry_id": "entry_" + "0" * 32,
    "name": "picture.webp",
    "token": "1-0",
    "captured_ms": "1",
}


@dataclass(frozen=True)
class Place:
    """A route, and the role that it asks for."""

    method: str
    path: str
    role: Role | None

    @property
    def address(self) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: IDS[found[1]], self.path)


def places() -> list[Place]:
    found = []
    for route in (route for router in console.ROUTERS for route in router.routes):
        assert isinstance(route, APIRoute)
        asks = [one.call for one in route.dependant.dependencies]
        roles = [call.role for call in asks if hasattr(call, "role")]
        assert len(roles) <= 1
        path = f"{PATH}{route.path}"
        found += [Place(method, path, roles[0] if roles else None) for method in route.methods]
    return found


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running(tmp_path_factory.mktemp("home"), finish=False) as gate:
        yield gate


@pytest.fixture(scope="module")
def people(gate: Gate) -> dict[Role, Browser]:
    return {role: signed_in(gate, f"a-{role.value}", role) for role in Role}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Gate]:
    """A gateway of the test's own."""
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def test_every_route_asks_who_is_there() -> None:
    found = places()
    assert len(found) > 25
    assert {(one.method, one.path) for one in found if one.role is None} == OPEN


def test_nobody_gets_in_without_signing_in(gate: Gate) -> None:
    stranger = Browser(gate)
    for one in places():
        if one.role is None:
            continue
        answer = (stranger.get if one.method == "GET" else stranger.post)(one.address)
        assert answer.status_code == 303, one
        assert answer.headers["location"].startswith("/console/sign-in"), one


@pytest.mark.parametrize("role", list(Role))
def test_every_route_asks_for_its_role(gate: Gate, people: dict[Role, Browser], role: Role) -> None:
    who = people[role]
    for one in places():
        if one.role is None or one.path.endswith("/sign-out"):
            continue
        answer = (who.get if one.method == "GET" else who.post)(one.address)
        if role.covers(one.role):
            assert answer.status_code in (200, 204, 303, 404, 409, 422, 403), one
            assert "This needs the role" not in answer.text, one
            assert not answer.headers.get("location", "").startswith("/console/sign-in"), one
        else:
            assert answer.status_code == 403, one
            assert f"This needs the role {one.role.value}" in answer.text, one


def test_no_change_without_the_token_of_ones_own_page(
    gate: Gate, people: dict[Role, Browser]
) -> None:
    admin = people[Role.ADMIN]
    other = people[Role.LEAD].csrf
    changes = [one for one in places() if one.method == "POST" and one.role is not None]
    assert len(changes) > 12
    for one in changes:
        for token in ("", "0" * 64, other, "é"):
            answer = admin.post(one.address, {"csrf": token})
            assert (answer.status_code, "too old" in answer.text) == (403, True), one
        for headers in (
            {"Origin": "http://elsewhere"},
            {"Origin": "null"},
            {"Origin": "http://["},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            answer = admin.post(one.address, None, **headers)
            assert (answer.status_code, "Another site" in answer.text) == (403, True), one


def test_the_token_may_be_a_header(gate: Gate, people: dict[Role, Browser]) -> None:
    viewer = people[Role.VIEWER]
    answer = viewer.post(
        f"/console/items/{IDS['item_id']}/reveal", {"csrf": ""}, **{"X-CSRF-Token": viewer.csrf}
    )
    assert answer.status_code == 404  # let in: there is no such item


def test_another_site_cannot_sign_somebody_in(own: Gate) -> None:
    person(own.stack.db, "anna", Role.VIEWER)
    form = {"name": "anna", "password": PASSWORD}
    answer = Browser(own).post("/console/sign-in", form, Origin="http://elsewhere")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_the_cookie_is_for_the_server_alone(own: Gate) -> None:
    person(own.stack.db, "anna", Role.VIEWER)
    answer = Browser(own).sign_in("anna")
    kept = answer.headers["set-cookie"]
    assert re.search(r"; HttpOnly", kept)
    assert re.search(r"; SameSite=lax", kept)
    assert re.search(r"; Path=/console(;|$)", kept)
    assert "Secure" not in kept
    address = "https://gateway/console/sign-in"
    answer = Browser(own).post(address, {"name": "anna", "password": PASSWORD})
    assert "; Secure" in answer.headers["set-cookie"]


def test_wrong_passwords_lock_an_account_and_tell_nothing(own: Gate) -> None:
    person(own.stack.db, "anna", Role.VIEWER)
    browser = Browser(own)
    said = {browser.sign_in("nobody").text.replace("nobody", "NAME")}
    for _ in range(accounts.MAX_FAILURES):
        answer = browser.sign_in("anna", "wrong")
        assert answer.status_code == 401
        said.add(answer.text.replace("anna", "NAME"))
    said.add(browser.sign_in("anna").text.replace("anna", "NAME"))
    assert len(said) == 1
    assert browser.cookie == ""


@pytest.mark.parametrize(
    ("then", "leads"),
    [
        ("/console/items/item_1?label=a.b", "/console/items/item_1?label=a.b"),
        ("https://elsewhere/", "/console/queue"),
        ("//elsewhere", "/console/queue"),
        ("/console//elsewhere", "/console/queue"),
        ("/console/\\elsewhere", "/console/queue"),
        ("/v1/items", "/console/queue"),
        ("/console/a\r\nSet-Cookie: x=y", "/console/queue"),
        ("", "/console/queue"),
    ],
)
def test_one_is_led_back_within_the_console_alone(
    gate: Gate, people: dict[Role, Browser], then: str, leads: str
) -> None:
    form = {"name": "a-viewer", "password": PASSWORD, "then": then}
    answer = Browser(gate).post("/console/sign-in", form)
    assert (answer.status_code, answer.headers["location"]) == (303, leads)


def test_who_signs_out_is_out_and_leaves_nothing_claimed(own: Gate) -> None:
    db = own.stack.db
    item_id = waiting(db, 1)
    anna = signed_in(own, "anna", Role.REVIEWER)
    assert anna.post("/console/next").headers["location"] == f"/console/items/{item_id}"
    cookie = anna.cookie
    assert anna.post("/console/sign-out").headers["location"] == "/console/sign-in"
    assert Browser(own, cookie=cookie).get("/console/queue").status_code == 303
    assert reviews.claim_next(db, "default", "another", ReviewFilter()) is not None


def test_who_is_disabled_or_changes_the_password_is_out_everywhere_else(own: Gate) -> None:
    db = own.stack.db
    anna, admin = signed_in(own, "anna", Role.VIEWER), signed_in(own, "root", Role.ADMIN)
    elsewhere = Browser(own)
    elsewhere.sign_in("anna")
    form = {"old": PASSWORD, "new": "another long one"}
    answer = anna.post("/console/account/password", form)
    assert answer.status_code == 303, answer.text
    anna.cookie = answer.headers["set-cookie"].partition(";")[0]
    assert anna.get("/console/account").status_code == 200
    assert elsewhere.get("/console/account").status_code == 303
    user = f"/console/users/{accounts.named(db, 'anna').id}"
    assert admin.post(user, {"act": "disable"}).status_code == 303
    assert anna.get("/console/account").status_code == 303


def test_another_tenants_items_and_people_are_not_there(own: Gate) -> None:
    item_id = waiting(own.stack.db, 1, tenant="other")
    person(own.stack.db, "foreign", Role.VIEWER, "other")
    admin = signed_in(own, "root", Role.ADMIN)
    assert admin.get(f"/console/items/{item_id}").status_code == 404
    for act in ("claim", "reveal", "decision"):
        answer = admin.post(f"/console/items/{item_id}/{act}", {"action": "pass"})
        assert answer.status_code == 404, act
    assert item_id not in admin.get("/console/queue").text
    assert "foreign" not in admin.get("/console/users").text
    user = accounts.named(own.stack.db, "foreign").id
    assert admin.post(f"/console/users/{user}", {"act": "disable"}).status_code == 404


def test_a_part_of_a_page_leads_to_the_sign_in_as_a_whole(gate: Gate) -> None:
    answer = Browser(gate).get("/console/streams", **{"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/console/sign-in")


def test_the_gateways_front_leads_to_the_console(gate: Gate) -> None:
    answer = Browser(gate).get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")


@pytest.mark.parametrize("path", ["nothing", "items", "queue/nothing", "sign-in/", "static/a/b"])
def test_where_there_is_nothing_a_page_says_so_to_who_is_signed_in(
    gate: Gate, people: dict[Role, Browser], path: str
) -> None:
    viewer = people[Role.VIEWER]
    for answer in (viewer.get(f"/console/{path}"), viewer.post(f"/console/{path}")):
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "There is nothing at this address." in answer.text
        assert 'href="/console/queue"' in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    answer = Browser(gate).get(f"/console/{path}?a=b")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/sign-in?then=/console/")


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/consoles", "/v1/console/nothing"])
def test_elsewhere_the_api_answers(gate: Gate, people: dict[Role, Browser], path: str) -> None:
    answer = people[Role.ADMIN].get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"
