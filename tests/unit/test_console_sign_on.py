"""Signing in by an identity provider: the whole way, and what breaks it off."""

from __future__ import annotations

from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from moderation.store import accounts
from moderation.store.review_records import Role
from tests.fakes.browsing import Browser, person, signed_in
from tests.fakes.gateway import Gate, running
from tests.fakes.identity import Identity, identity_provider


@pytest.fixture
def identity() -> Iterator[Identity]:
    with identity_provider() as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path, identity: Identity) -> Iterator[Gate]:
    settings = identity.settings(oidc_name="Example ID")
    with running(tmp_path / "home", finish=False, **settings) as gate:
        yield gate


HERE = {"scheme": "", "netloc": ""}


class Traveller(Browser):
    """A browser that goes to the provider and back, with all cookies of ours."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        self.jar: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> httpx.Response:
        answer = super().get(path, **headers)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.jar[name] = morsel.value
                if not morsel.value:
                    del self.jar[name]
        self.cookie = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        return answer

    def to_provider(self, then: str = "") -> str:
        """Where it is sent."""
        answer = self.get("/console/sign-in/provider" + (f"?then={then}" if then else ""))
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def back(self, url: str) -> httpx.Response:
        at_provider = httpx.get(url)
        assert at_provider.status_code == 302, at_provider.text
        return self.get(urlsplit(at_provider.headers["location"])._replace(**HERE).geturl())

    def arrive(self, then: str = "") -> httpx.Response:
        return self.back(self.to_provider(then))


def refused(answer: httpx.Response, words: str) -> None:
    assert answer.status_code == 401, answer.headers
    assert words in answer.text
    assert "moderation_session" not in answer.headers.get("set-cookie", "")


def account(gate: Gate, name: str) -> Any:
    return accounts.named(gate.stack.db, name)


def test_who_comes_back_is_signed_in_with_the_role_of_the_group(
    gate: Gate, identity: Identity
) -> None:
    browser = Traveller(gate)
    page = browser.get("/console/sign-in?then=/console/lists")
    assert 'href="/console/sign-in/provider?then=/console/lists"' in page.text
    assert "Sign in with Example ID" in page.text
    url = browser.to_provider("/console/lists")
    assert url.startswith(f"{identity.url}/authorize?")
    answer = browser.back(url)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/lists")
    assert set(browser.jar) == {"moderation_session"}, "the attempt is over"
    found = account(gate, "mei-lin")
    assert (found.role, found.external, found.seen is not None) == (Role.REVIEWER, True, True)
    assert browser.get("/console/queue").status_code == 200
    assert "Password" not in browser.get("/console/account").text
    # The next time it is the same account, with the role of then.
    identity.claims = {"groups": ["heads"], "preferred_username": "renamed"}
    assert browser.arrive().headers["location"] == "/console/queue"
    assert account(gate, "mei-lin").role is Role.ADMIN
    assert len(accounts.listed(gate.stack.db)) == 1
    assert identity.asked == 1, "its addresses are kept"
    users = browser.get("/console/users")
    assert "by the identity provider" in users.text
    path = f"/console/users/{found.id}"
    for form in ({"act": "password"}, {"role": "viewer"}):
        assert browser.post(path, form).status_code == 422


def test_another_role_ends_the_sessions_that_there_are(gate: Gate, identity: Identity) -> None:
    identity.claims = {"groups": ["heads"], "sub": "p-0"}
    Traveller(gate).arrive()
    identity.claims = {"groups": ["heads"]}
    first, second = Traveller(gate), Traveller(gate)
    first.arrive()
    assert first.get("/console/users").status_code == 200
    identity.claims = {"groups": ["mods"]}
    second.arrive()
    assert first.get("/console/users").status_code == 303
    assert second.get("/console/users").status_code == 403


def test_a_name_that_somebody_has_is_not_taken_over(gate: Gate, identity: Identity) -> None:
    own = person(gate.stack.db, "mei-lin", Role.ADMIN)
    Traveller(gate).arrive()
    assert account(gate, "mei-lin") == own
    assert account(gate, "mei-lin-2").role is Role.REVIEWER
    identity.claims = {"sub": "p-2", "preferred_username": "é"}
    Traveller(gate).arrive()
    assert account(gate, "user-1").external
    stranger = Browser(gate)
    stranger.get("/console/sign-in")
    assert stranger.sign_in("mei-lin-2", "").status_code == 401


def test_a_disabled_account_stays_out(gate: Gate) -> None:
    Traveller(gate).arrive()
    accounts.change(gate.stack.db, account(gate, "mei-lin").id, disabled=True)
    refused(Traveller(gate).arrive(), "The account is disabled.")


def test_the_last_admin_is_not_made_another(gate: Gate, identity: Identity) -> None:
    identity.claims = {"groups": ["heads"]}
    Traveller(gate).arrive()
    identity.claims = {"groups": ["mods"]}
    refused(Traveller(gate).arrive(), "last account with the role admin")
    signed_in(gate, "other", Role.ADMIN)
    assert Traveller(gate).arrive().status_code == 303


def test_only_the_browser_that_began_it_ends_it_and_once(gate: Gate) -> None:
    mine, other = Traveller(gate), Traveller(gate)
    url = mine.to_provider()
    refused(other.back(url), "not begun here")
    other.to_provider()
    refused(other.back(url), "not begun here")
    refused(mine.get("/console/sign-in/back?code=x"), "not begun here")
    assert "moderation_sign_on" not in mine.jar, "one that failed is over"
    url = mine.to_provider()
    at_provider = httpx.get(url).headers["location"].partition("/console")[2]
    kept = mine.cookie
    assert mine.get("/console" + at_provider).status_code == 303
    again = Browser(gate, cookie=kept)
    refused(again.get("/console" + at_provider), "cannot be used")


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example", "/console/../x\\y"])
def test_it_leads_nowhere_else(gate: Gate, then: str) -> None:
    assert Traveller(gate).arrive(then).headers["location"] == "/console/queue"
    browser = Traveller(gate)
    url = browser.to_provider()
    browser.jar["moderation_sign_on"] = browser.jar["moderation_sign_on"].partition(".")[0]
    browser.cookie = f"moderation_sign_on={browser.jar['moderation_sign_on']}.{then}"
    assert browser.back(url).headers["location"] == "/console/queue", "a cookie is no better"


def test_where_to_go_on_is_forgotten_where_a_cookie_cannot_hold_it(gate: Gate) -> None:
    assert (
        Traveller(gate)
        .arrive("/console/queue?data_id=" + "x" * 900)
        .headers["location"]
        .endswith("x" * 900)
    )
    far = "/console/queue?data_id=" + "é" * 900
    assert Traveller(gate).arrive(far).headers["location"] == "/console/queue"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"groups": ["x"]}, "no role here"),
        ({"aud": "another"}, "cannot be used"),
        ({"nonce": "x"}, "cannot be used"),
        ({"exp": 1}, "cannot be used"),
    ],
)
def test_a_token_that_is_worth_nothing(
    gate: Gate, identity: Identity, claims: dict[str, Any], words: str
) -> None:
    identity.claims = claims
    refused(Traveller(gate).arrive(), words)
    assert accounts.listed(gate.stack.db) == []


def test_the_provider_may_refuse_or_be_away(tmp_path: Path, identity: Identity, gate: Gate) -> None:
    identity.refuses = "access_denied"
    refused(Traveller(gate).arrive(), "did not let you in")
    with identity_provider() as gone:
        settings = gone.settings()
    with running(tmp_path / "other", finish=False, **settings) as other:
        answer = Browser(other).get("/console/sign-in/provider")
        refused(answer, "does not answer")


def test_the_secret_in_the_form_where_the_provider_wants_it_so(
    gate: Gate, identity: Identity
) -> None:
    identity.methods = ["client_secret_post"]
    assert Traveller(gate).arrive().status_code == 303


def test_without_a_provider_there_is_no_such_way(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False) as gate:
        browser = Browser(gate)
        assert "/sign-in/provider" not in browser.get("/console/sign-in").text
        for path in ("provider", "back?code=x&state=y"):
            assert browser.get(f"/console/sign-in/{path}").status_code == 404
