"""Basic and Digest, by the examples of the RFCs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.live.login import Login

NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def offered(algorithm: str) -> str:
    return (
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm},'
        f' nonce="{NONCE}", opaque="{OPAQUE}"'
    )


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616(algorithm: str, response: str) -> None:
    login = Login("Mufasa", "Circle of Life")
    assert login.header("GET", "/dir/index.html") is None
    assert login.learn([offered(algorithm)], None)
    said = login.header("GET", "/dir/index.html", CNONCE)
    assert said is not None
    parts = dict(re.findall(r'(\w+)="?([^",]+)', said.decode()))
    assert parts == {
        "username": "Mufasa",
        "realm": "http-auth@example.org",
        "uri": "/dir/index.html",
        "algorithm": algorithm,
        "nonce": NONCE,
        "nc": "00000001",
        "cnonce": CNONCE,
        "qop": "auth",
        "response": response,
        "opaque": OPAQUE,
    }
    again = login.header("GET", "/dir/index.html", CNONCE)
    assert again is not None
    assert b"nc=00000002" in again


def test_the_example_of_rfc_2069() -> None:
    """Without qop; the response as the errata of the RFC have it."""
    login = Login("Mufasa", "CircleOfLife")
    nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
    assert login.learn([f'Digest realm="testrealm@host.com", nonce="{nonce}"'], None)
    said = login.header("GET", "/dir/index.html")
    assert said is not None
    assert b'response="1949323746fe6a43ef61f9606e7febea"' in said
    assert b"qop" not in said


BASIC = 'Basic realm="x"'
DIGEST = 'Digest realm="x", nonce="1"'


def test_basic() -> None:
    login = Login("anna", "s3cret")
    assert login.learn([BASIC], None)
    said = login.header("GET", "/")
    assert said == b"Basic YW5uYTpzM2NyZXQ="
    assert not login.learn([BASIC], said)


def test_who_says_nothing_of_how_gets_basic() -> None:
    assert Login("anna", "s3cret").learn([], None)


def test_digest_is_taken_where_both_are_offered_and_never_left_again() -> None:
    login = Login("anna", "s3cret")
    assert login.learn([BASIC, DIGEST], None)
    said = login.header("GET", "/")
    assert said is not None
    assert said.startswith(b"Digest ")
    assert not login.learn([BASIC], said)
    assert not login.learn([BASIC], None)
    assert str(login.header("GET", "/")).startswith("b'Digest ")


def test_a_new_nonce_is_worth_another_try_and_the_same_is_not() -> None:
    login = Login("anna", "s3cret")
    assert login.learn([DIGEST], None)
    said = login.header("GET", "/")
    assert not login.learn([DIGEST], said)
    assert login.learn([DIGEST.replace("1", "2")], said)


@pytest.mark.parametrize("challenge", [BASIC, DIGEST])
def test_requests_at_the_same_time_learn_the_same(challenge: str) -> None:
    """Two were sent before the first answer: both ask again, and no count is used twice."""
    login = Login("anna", "s3cret")
    assert login.learn([challenge], None)
    first = login.header("GET", "/")
    assert login.learn([challenge], None)
    second = login.header("GET", "/")
    if challenge is BASIC:
        assert first == second
    assert login._count == (0 if challenge is BASIC else 2)


@pytest.mark.parametrize(
    "challenge",
    [
        "Bearer realm=x",
        'Digest realm="x"',
        'Digest realm="x", nonce="1", algorithm=SHA-512-256',
        'Digest realm="x", nonce="1", qop="auth-int"',
        "Negotiate",
        "",
    ],
)
def test_what_cannot_be_answered(challenge: str) -> None:
    login = Login("anna", "s3cret")
    assert not login.learn([challenge], None)
    assert login.header("GET", "/") is None


def test_passwords_are_not_shown() -> None:
    assert repr(Login("anna", "s3cret")) == "Login()"


@given(st.lists(st.text(max_size=80) | st.text(max_size=60).map("Digest nonce=1, ".__add__)))
def test_any_challenge_can_be_read(challenges: list[str]) -> None:
    login = Login('an"na', "pass\\word")
    login.learn(challenges, None)
    said = login.header("GET", "/")
    assert said is None or said.startswith((b"Basic ", b'Digest username="an\\"na"'))
