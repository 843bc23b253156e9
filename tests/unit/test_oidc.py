"""What an identity provider's answers are worth."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation import oidc
from moderation.errors import ConfigError
from moderation.oidc import Attempt, Client, Provider, SignOnError
from moderation.settings import load_settings
from moderation.store.review_records import Role
from tests.fakes.identity import jwt

NOW = 1_800_000_000.0
ISSUER = "https://id.example/realm"
ROLES = {"mods": Role.REVIEWER, "heads": Role.ADMIN}
CLIENT = Client(ISSUER, "console", "s3cret", "openid", "groups", ROLES)
ATTEMPT = Attempt("x" * 43)
CLAIMS = {
    "iss": ISSUER,
    "aud": "console",
    "sub": "p-1",
    "iat": NOW,
    "exp": NOW + 300,
    "nonce": ATTEMPT.nonce,
    "preferred_username": "mei",
    "groups": ["mods"],
}


def person(claims: dict[str, Any], client: Client = CLIENT) -> oidc.Person:
    answer = json.dumps({"id_token": jwt(claims)}).encode()
    return oidc.person_of(answer, client, ATTEMPT, NOW)


def test_a_person_has_a_lasting_name_and_the_role_of_their_groups() -> None:
    found = person(CLAIMS)
    assert (found.name, found.role) == ("mei", Role.REVIEWER)
    assert found.subject == person(CLAIMS | {"preferred_username": "other"}).subject
    assert found.subject != person(CLAIMS | {"sub": "p-2"}).subject
    assert person(CLAIMS | {"groups": ["x", "mods", "heads"]}).role is Role.ADMIN
    assert person(CLAIMS | {"groups": "mods"}).role is Role.REVIEWER
    del (left := dict(CLAIMS))["preferred_username"]
    assert person(left | {"email": "li@x.example"}).name == "li@x.example"
    assert person(left).name == "p-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://id.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": []},
        {"aud": None},
        {"aud": ["console", "another"]},
        {"aud": ["console", "another"], "azp": "another"},
        {"azp": "another"},
        {"exp": NOW - 61},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": float("nan")},
        {"iat": NOW + 61},
        {"iat": None},
        {"nonce": "0" * 64},
        {"nonce": None},
        {"nonce": "\ud800"},
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"sub": "x" * 256},
    ],
)
def test_a_token_that_is_not_for_us_and_now_lets_nobody_in(changes: dict[str, Any]) -> None:
    with pytest.raises(SignOnError, match="cannot be used"):
        person(CLAIMS | changes)


def test_what_may_differ() -> None:
    for changes in (
        {"aud": ["console"]},
        {"aud": ["another", "console"], "azp": "console"},
        {"exp": NOW - 59},
        {"iat": NOW + 59},
        {"sub": "\ud800"},
    ):
        assert person(CLAIMS | changes).role is Role.REVIEWER


@pytest.mark.parametrize("groups", [None, [], ["x"], "x", 7, [7, None], ["*"], {"mods": 1}])
def test_without_a_role_nobody_gets_in(groups: object) -> None:
    with pytest.raises(SignOnError, match="no role"):
        person(CLAIMS | {"groups": groups})


def test_everybody_may_have_a_role() -> None:
    assert oidc.role_of(None, ROLES | {"*": Role.VIEWER}) is Role.VIEWER
    assert oidc.role_of(["mods"], ROLES | {"*": Role.VIEWER}) is Role.REVIEWER


@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
        ).map(lambda value: json.dumps({"id_token": value}).encode()),
        st.text(alphabet="abcXYZ012-_=.é", max_size=40).map(
            lambda text: json.dumps({"id_token": text}).encode()
        ),
    )
)
def test_whatever_is_answered_it_lets_in_or_says_why(answer: bytes) -> None:
    with pytest.raises(SignOnError):
        oidc.person_of(answer, CLIENT, ATTEMPT, NOW)


def test_what_goes_to_the_provider_is_made_of_the_browsers_secret() -> None:
    other = Attempt("y" * 43)
    made = {ATTEMPT.state, ATTEMPT.nonce, ATTEMPT.verifier, other.state, other.nonce}
    assert len(made) == 5
    assert "x" * 43 not in repr(ATTEMPT)
    url = oidc.asking(
        Provider(f"{ISSUER}/a?x=1", "", basic=True), CLIENT, ATTEMPT, "https://m/back"
    )
    assert url.startswith(f"{ISSUER}/a?x=1&response_type=code&client_id=console&")
    assert f"state={ATTEMPT.state}" in url
    assert ATTEMPT.verifier not in url


def test_the_secret_goes_as_the_provider_takes_it() -> None:
    def sent(basic: bool, client: Client = CLIENT) -> tuple[str, str | None]:
        provider = Provider("", "", basic=basic)
        body, headers = oidc.exchange(provider, client, ATTEMPT, "code", "https://m/back")
        return body.decode(), headers.get("Authorization")

    body, authorization = sent(True)
    assert authorization == "Basic Y29uc29sZTpzM2NyZXQ="
    assert "s3cret" not in body
    body, authorization = sent(False)
    assert authorization is None
    assert "client_id=console&client_secret=s3cret" in body
    public = Client(ISSUER, "console", None, "openid", "groups", ROLES)
    body, authorization = sent(True, public)
    assert (authorization, "client_secret" in body) == (None, False)
    assert f"code_verifier={ATTEMPT.verifier}" in body
    assert "s3cret" not in repr(CLIENT)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://another.example"},
        {"issuer": f"{ISSUER}/"},
        {"token_endpoint": "http://id.example/token"},
        {"token_endpoint": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://[/"},
        {"authorization_endpoint": f"{ISSUER}/é"},
        {"authorization_endpoint": f"{ISSUER}/\r\nX: y"},
    ],
)
def test_a_provider_that_is_another_or_talks_in_the_open_is_not_used(
    changes: dict[str, object],
) -> None:
    told: dict[str, object] = {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/a",
        "token_endpoint": f"{ISSUER}/t",
    }
    assert oidc.provider_of(json.dumps(told).encode(), ISSUER).basic
    with pytest.raises(SignOnError):
        oidc.provider_of(json.dumps(told | changes).encode(), ISSUER)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"oidc_client_id": None}, "oidc_client_id"),
        ({"oidc_issuer": "http://id.example"}, "https://"),
        ({"oidc_issuer": "id.example"}, "https://"),
        ({"oidc_roles": ""}, "oidc_roles"),
        ({"oidc_roles": "mods=king"}, "'mods=king'"),
        ({"oidc_roles": "mods"}, "'mods'"),
        ({"oidc_roles": "=admin"}, "'=admin'"),
    ],
)
def test_settings_that_cannot_be_used_are_told_at_the_start(
    changes: dict[str, Any], words: str
) -> None:
    given = {"oidc_issuer": ISSUER, "oidc_client_id": "c", "oidc_roles": "mods=reviewer"}
    with pytest.raises(ConfigError, match=words):
        oidc.client_of(load_settings(**(given | changes)))


def test_groups_may_have_odd_names() -> None:
    groups = ["CN=mods,OU=x=lead", "/realm/heads=admin"]
    found = oidc.client_of(load_settings(oidc_issuer=ISSUER, oidc_client_id="c", oidc_roles=groups))
    assert found is not None
    assert found.roles == {"CN=mods,OU=x": Role.LEAD, "/realm/heads": Role.ADMIN}
    assert oidc.client_of(load_settings()) is None
