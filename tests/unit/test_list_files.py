"""Files of hashes, and what in them is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import InputError
from moderation.known import MatchKind
from moderation.list_files import parse_csv, parse_json
from moderation.store.list_records import NewEntry

A, B = "ab" * 32, "cd" * 32
PDQ, SHA256 = MatchKind.PDQ, MatchKind.SHA256


@pytest.mark.parametrize("heading", ["", "value,note\r\n", "Value\n", "\ufeffvalue,note\n"])
def test_csv_with_and_without_a_heading(heading: str) -> None:
    parsed = parse_csv(f'{heading}{A},"a, ""note"""\n\n{B.upper()}\n'.encode(), PDQ)
    assert parsed.entries == (NewEntry(PDQ, A, 'a, "note"'), NewEntry(PDQ, B))
    assert parsed.refused == ()


def test_csv_lines_are_refused_one_by_one() -> None:
    parsed = parse_csv(f"{A}\nvalue\nab,x\n{B},{'x' * 1025}\n{B}, ok ,more\n".encode(), SHA256)
    assert parsed.entries == (NewEntry(SHA256, A), NewEntry(SHA256, B, "ok"))
    assert [(one.line, one.reason[:6]) for one in parsed.refused] == [
        (2, "A hash"),
        (3, "A hash"),
        (4, "A note"),
    ]


def test_after_a_broken_quotation_nothing_is_guessed() -> None:
    parsed = parse_csv(f'{A}\n"{B}\n{B}\n'.encode(), PDQ)
    assert parsed.entries == (NewEntry(PDQ, A),)
    (refused,) = parsed.refused
    assert "nor is the rest read" in refused.reason


def test_json_as_of_threatexchange() -> None:
    things: list[Any] = [
        {"indicator": A, "type": "HASH_PDQ", "description": "d", "id": "1", "quality": 70},
        {"hash": B.upper(), "type": "HASH_SHA256", "note": "n", "description": "d", "quality": 3},
    ]
    parsed = parse_json(json.dumps({"data": things, "paging": {}}).encode())
    assert parsed.entries == (NewEntry(PDQ, A, "d", 70), NewEntry(SHA256, B, "n"))
    assert parsed.refused == ()


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        (A, "no JSON object"),
        ({"indicator": A, "type": "HASH_MD5"}, "HASH_PDQ and HASH_SHA256"),
        ({"indicator": A}, "HASH_PDQ and HASH_SHA256"),
        ({"type": "HASH_PDQ"}, "neither"),
        ({"indicator": 7, "type": "HASH_PDQ"}, "neither"),
        ({"indicator": A[:-1], "type": "HASH_PDQ"}, "64 hexadecimal digits"),
        ({"indicator": A, "type": "HASH_PDQ", "quality": 49}, "too plain"),
        ({"indicator": A, "type": "HASH_PDQ", "quality": True}, "whole number"),
        ({"indicator": A, "type": "HASH_PDQ", "quality": 60.5}, "whole number"),
        ({"indicator": A, "type": "HASH_PDQ", "note": ["x"]}, "note is text"),
        ({"indicator": A, "type": "HASH_PDQ", "note": "\ud800"}, "no text"),
        ({"indicator": A, "type": "HASH_PDQ", "note": "\0"}, "A note"),
    ],
)
def test_what_json_cannot_say_is_refused(thing: Any, reason: str) -> None:
    good = {"indicator": B, "type": "HASH_PDQ"}
    parsed = parse_json(json.dumps({"data": [good, thing]}).encode())
    assert parsed.entries == (NewEntry(PDQ, B),)
    (refused,) = parsed.refused
    assert refused.line == 2
    assert reason in refused.reason


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'{"data": {}}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_such_file_is_said_at_once(data: bytes) -> None:
    with pytest.raises(InputError) as refused:
        parse_json(data)
    assert refused.value.code == "file_invalid"


def test_csv_has_to_be_text() -> None:
    with pytest.raises(InputError) as refused:
        parse_csv(b"\xff\xfe", PDQ)
    assert refused.value.code == "file_invalid"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    parsed = parse_csv(text.encode("utf-8", "replace"), PDQ)
    assert all(one.reason for one in parsed.refused)
