"""What a password's hash costs, with nothing in its way."""

from __future__ import annotations

from moderation import passwords


def test_a_hash_is_argon2id_by_the_second_choice_of_rfc_9106() -> None:
    kept = passwords.hashed("correct horse battery")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.matches("correct horse battery", kept)
    assert not passwords.matches("correct horse batteries", kept)
    assert not passwords.matches("correct horse battery", passwords.nobodys())
