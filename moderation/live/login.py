"""User and password of an HTTP source, as its server wants them: Basic or Digest (RFC 7616)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

_PART = re.compile(r'([A-Za-z0-9-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES = {"md5": "md5", "sha-256": "sha256"}


@dataclass(slots=True)
class Login:
    """Says what goes into `Authorization`: nothing until the server has said what it wants, so that
    one who wants Digest never sees the password."""

    user: str = field(repr=False)
    password: str = field(repr=False)
    _basic: bool = field(default=False, repr=False)
    _challenge: dict[str, str] | None = field(default=None, repr=False)
    _count: int = field(default=0, repr=False)

    def learn(self, challenges: Sequence[str], said: bytes | None) -> bool:
        """From the `WWW-Authenticate` headers of a 401: whether asking again makes sense.

        said: the header that was sent. The same challenge again, to who had answered it, means a
        wrong password.
        """
        for challenge in challenges:
            parts = _digest(challenge)
            if parts is not None:
                new = self._challenge is None or self._challenge["nonce"] != parts["nonce"]
                if new:
                    self._challenge, self._count = parts, 0
                return new or said is None
        if self._challenge is not None:
            return False
        if not challenges or any(text.strip().lower().startswith("basic") for text in challenges):
            self._basic = True
        return self._basic and said is None

    def header(self, method: str, target: str, cnonce: str | None = None) -> bytes | None:
        """The header's value for a request of `target` (path and query). cnonce: for tests."""
        if self._challenge is None:
            pair = f"{self.user}:{self.password}".encode()
            return b"Basic " + base64.b64encode(pair) if self._basic else None
        asked = self._challenge
        self._count += 1
        name = asked.get("algorithm", "MD5")
        realm, nonce = asked.get("realm", ""), asked["nonce"]
        one = _hash(name, f"{self.user}:{realm}:{self.password}")
        two = _hash(name, f"{method}:{target}")
        said = {"username": self.user, "realm": realm, "nonce": nonce, "uri": target}
        more = f", algorithm={name}"
        if "qop" in asked:
            cnonce = cnonce or secrets.token_hex(16)
            count = f"{self._count:08x}"
            said |= {"response": _hash(name, f"{one}:{nonce}:{count}:{cnonce}:auth:{two}")}
            said |= {"cnonce": cnonce}
            more += f", qop=auth, nc={count}"
        else:
            said |= {"response": _hash(name, f"{one}:{nonce}:{two}")}
        if "opaque" in asked:
            said |= {"opaque": asked["opaque"]}
        quoted = ", ".join(f'{key}="{_escaped(value)}"' for key, value in said.items())
        return f"Digest {quoted}{more}".encode()


def _digest(challenge: str) -> dict[str, str] | None:
    """The parts of a Digest challenge that can be answered, by name in lower case."""
    kind, _, rest = challenge.strip().partition(" ")
    parts = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
        for name, quoted, plain in _PART.findall(rest)
    }
    known = parts.get("algorithm", "MD5").lower() in _HASHES
    qops = [qop.strip() for qop in parts.get("qop", "auth").split(",")]
    if kind.lower() == "digest" and known and "nonce" in parts and "auth" in qops:
        return parts
    return None


def _hash(name: str, text: str) -> str:
    return hashlib.new(_HASHES[name.lower()], text.encode(), usedforsecurity=False).hexdigest()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
