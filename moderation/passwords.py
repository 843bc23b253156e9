"""Passwords: how they are kept, and which may be used. Argon2id, by RFC 9106's second choice."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from moderation.errors import InputError

MIN_LENGTH: Final = 12
"""NIST SP 800-63B asks for 8 at least, and for 15 where there is nothing but a password; here an
account is locked after a few wrong ones."""
MAX_LENGTH: Final = 256
MADE_BYTES: Final = 12


def checked(password: str, name: str) -> str:
    """The password, if it may be one. Raises InputError (password_weak)."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InputError(
            f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.", code="password_weak"
        )
    if name.casefold() in password.casefold() or len(set(password)) < 5:
        raise InputError("This password is too easy to guess.", code="password_weak")
    return password


def made() -> str:
    """A new one, for who has none yet."""
    return secrets.token_urlsafe(MADE_BYTES)


def hashed(password: str) -> str:
    """What is stored. Takes some 30 ms and 64 MiB."""
    return _hasher().hash(password)


def matches(password: str, kept: str) -> bool:
    """Takes as long, whatever the answer."""
    try:
        return _hasher().verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False


def nobodys() -> str:
    """A hash that no password matches, for unknown names: to refuse them takes as long."""
    return _nobodys()


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4)


@cache
def _nobodys() -> str:
    return _hasher().hash(secrets.token_urlsafe(32))
