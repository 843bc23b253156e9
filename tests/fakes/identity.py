"""An identity provider on loopback: it lets in whoever it is told to, without asking."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

CLIENT, SECRET = "console", "s3cret/of:the client"


@dataclass
class Identity:
    """What it says, which a test changes. claims: over those of an ordinary token; refuses: the
    error that it sends browsers back with; methods: how it takes the client's secret."""

    url: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    refuses: str | None = None
    methods: list[str] | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: int = 0

    def settings(self, **changes: object) -> dict[str, Any]:
        """Those of a gateway that trusts it."""
        own = {"oidc_issuer": self.url, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
        return own | {"oidc_roles": "mods=reviewer,heads=admin"} | changes

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
        }
        ways = "token_endpoint_auth_methods_supported"
        return found if self.methods is None else found | {ways: self.methods}

    def authorized(self, asked: dict[str, str]) -> str:
        """Where the browser goes back to."""
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        told = {"state": asked["state"]}
        if self.refuses is None:
            told["code"] = secrets.token_urlsafe(16)
            self.codes[told["code"]] = asked
        else:
            told["error"] = self.refuses
        return f"{asked['redirect_uri']}?{urlencode(told)}"

    def token(self, form: dict[str, str], authorization: str | None) -> dict[str, Any] | None:
        """None for a request that is refused."""
        asked = self.codes.pop(form["code"], None)  # a code is good for once
        if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
            return None
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return None
        if self.methods is None or "client_secret_basic" in self.methods:
            pair = base64.b64decode((authorization or "").removeprefix("Basic ")).decode()
            client, secret = (unquote(one) for one in pair.split(":"))
        else:
            client, secret = form["client_id"], form["client_secret"]
        if (client, secret) != (CLIENT, SECRET):
            return None
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "person-1",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "preferred_username": "Mei Lin",
            "groups": ["mods"],
        }
        return {"access_token": "x", "token_type": "Bearer", "id_token": jwt(claims | self.claims)}


def jwt(claims: dict[str, Any]) -> str:
    """A token, whose signature nobody looks at."""
    parts = ({"alg": "RS256"}, claims)
    coded = (base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in parts)
    return b".".join((*coded, b"c2ln")).decode()


@contextmanager
def identity_provider() -> Iterator[Identity]:
    made = Identity()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            if where.path == "/.well-known/openid-configuration":
                made.asked += 1
                return self._json(200, made.document())
            asked = {name: values[0] for name, values in parse_qs(where.query).items()}
            self.send_response(302)
            self.send_header("Location", made.authorized(asked))
            self.send_header("Content-Length", "0")
            return self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            told = made.token(form, self.headers["Authorization"])
            self._json(*((400, {"error": "invalid_grant"}) if told is None else (200, told)))

        def _json(self, status: int, told: dict[str, Any]) -> None:
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
