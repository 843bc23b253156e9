"""Sign-in by an OpenID Connect provider: what is asked of it, and what its answers are worth.

The authorization code flow with PKCE (OpenID Connect Core 1.0, 3.1; RFC 7636). The ID token comes
straight from the provider's token endpoint, over TLS: Core 3.1.3.7 (6.) lets that stand for its
signature. So both addresses have to be https, but for a provider on this very machine.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from moderation.errors import AccessError, ConfigError
from moderation.settings import Settings
from moderation.store.review_records import Role

log = logging.getLogger(__name__)

DISCOVERY: Final = "/.well-known/openid-configuration"
LEEWAY_S: Final = 60
"""How far two clocks may differ."""
MAX_SUBJECT: Final = 255
"""Core 1.0, 2: of ASCII characters."""
EVERYBODY: Final = "*"
NO_TOKEN: Final = "The identity provider's answer cannot be used."  # noqa: S105 - a sentence
NO_ROLE: Final = "The identity provider gives you no role here."


class SignOnError(AccessError):
    """The provider, or its answer, lets nobody in."""

    code = "sign_on_failed"


@dataclass(frozen=True, slots=True)
class Client:
    """What we are to the provider. secret: None for a public client, which PKCE alone protects.
    claim: has the groups of a person; roles: by group, `*` being everybody."""

    issuer: str
    id: str
    secret: str | None = field(repr=False)
    scopes: str
    claim: str
    roles: Mapping[str, Role]


@dataclass(frozen=True, slots=True)
class Provider:
    """Its addresses. basic: it takes our secret as HTTP Basic, else in the form."""

    authorize: str
    token: str
    basic: bool


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the provider vouches for. subject: for ever the same, and nobody else's."""

    subject: str
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to the provider and back. What goes along is made from a secret that stays in the
    browser's cookie: who has not begun it cannot end it."""

    secret: str = field(repr=False)

    @property
    def state(self) -> str:
        return self._made("state")

    @property
    def nonce(self) -> str:
        return self._made("nonce")

    @property
    def verifier(self) -> str:
        """RFC 7636, 4.1: 43 to 128 unreserved characters."""
        return self._made("verifier")

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _made(self, words: str) -> str:
        return hmac.new(self.secret.encode(), words.encode(), hashlib.sha256).hexdigest()


def client_of(settings: Settings) -> Client | None:
    """None where no provider is set. Raises ConfigError for one that cannot be used."""
    issuer, secret = settings.oidc_issuer, settings.oidc_client_secret
    if issuer is None:
        return None
    if settings.oidc_client_id is None:
        raise ConfigError("setting 'oidc_client_id' is needed beside 'oidc_issuer'")
    if not is_safe(issuer):
        raise ConfigError("setting 'oidc_issuer': should be a URL that begins with https://")
    return Client(
        issuer=issuer,
        id=settings.oidc_client_id,
        secret=None if secret is None else secret.get_secret_value(),
        scopes=settings.oidc_scopes,
        claim=settings.oidc_claim,
        roles=_roles(settings.oidc_roles),
    )


def provider_of(document: bytes, issuer: str) -> Provider:
    """What a provider says of itself (Discovery 1.0, 4.2). Raises SignOnError."""
    told = _object(document)
    authorize, token = told.get("authorization_endpoint"), told.get("token_endpoint")
    if told.get("issuer") != issuer or not (is_safe(authorize) and is_safe(token)):
        raise SignOnError(NO_TOKEN)
    # Basic is what is meant where nothing is said.
    ways = told.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    return Provider(str(authorize), str(token), "client_secret_basic" in ways)


def is_safe(url: object) -> bool:
    """Whether nobody on the way can read or change what goes there."""
    if not (isinstance(url, str) and url.isascii() and url.isprintable()):
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    near = host in ("localhost", "127.0.0.1", "::1")
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and near))


def asking(provider: Provider, client: Client, attempt: Attempt, back: str) -> str:
    """Where the browser is sent. back: where it comes back to."""
    asked = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": back,
        "scope": client.scopes,
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": attempt.challenge,
        "code_challenge_method": "S256",
    }
    joined = "&" if urlsplit(provider.authorize).query else "?"
    return f"{provider.authorize}{joined}{urlencode(asked)}"


def exchange(
    provider: Provider, client: Client, attempt: Attempt, code: str, back: str
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the request that a code is given for (Core 3.1.3.1)."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": back,
        "code_verifier": attempt.verifier,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if client.secret is not None and provider.basic:
        # RFC 6749, 2.3.1: both are form-encoded first.
        pair = f"{quote(client.id, safe='')}:{quote(client.secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form["client_id"] = client.id
        if client.secret is not None:
            form["client_secret"] = client.secret
    return urlencode(form).encode(), headers


def person_of(answer: bytes, client: Client, attempt: Attempt, now_s: float) -> Person:
    """Who has signed in, by the answer to `exchange`. now_s: UTC. Raises SignOnError: the token is
    not for us, of another attempt, or too old (Core 3.1.3.7); or there is no role."""
    claims = _claims(_object(answer).get("id_token"))
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    subject = claims.get("sub")
    several = not isinstance(audiences, list) or len(audiences) != 1
    right = {
        "iss": claims.get("iss") == client.issuer,
        "aud": isinstance(audiences, list) and client.id in audiences,
        "azp": claims.get("azp", None if several else client.id) == client.id,
        "exp": _number(claims.get("exp")) > now_s - LEEWAY_S,
        "iat": _number(claims.get("iat")) < now_s + LEEWAY_S,
        "nonce": hmac.compare_digest(_bytes(str(claims.get("nonce"))), _bytes(attempt.nonce)),
        "sub": isinstance(subject, str) and 0 < len(subject) <= MAX_SUBJECT,
    }
    if not all(right.values()):
        wrong = ", ".join(name for name, fine in right.items() if not fine)
        log.warning("the identity provider's token is refused for: %s", wrong)
        raise SignOnError(NO_TOKEN)
    role = role_of(claims.get(client.claim), client.roles)
    if role is None:
        log.info("somebody has no role by the claim %s of the identity provider", client.claim)
        raise SignOnError(NO_ROLE)
    known = hashlib.sha256(_bytes(f"{client.issuer}\0{subject}")).hexdigest()
    names = (claims.get(one) for one in ("preferred_username", "email", "name"))
    name = next((one for one in names if isinstance(one, str) and one), str(subject))
    return Person(known, name, role)


def role_of(groups: object, roles: Mapping[str, Role]) -> Role | None:
    """The role that covers most, of those that somebody's groups have."""
    told = groups if isinstance(groups, list) else [groups]
    named = [one for one in told if isinstance(one, str) and one != EVERYBODY]
    found = [roles[one] for one in (*named, EVERYBODY) if one in roles]
    return max(found, key=list(Role).index, default=None)


def _roles(told: Sequence[str]) -> dict[str, Role]:
    """Raises ConfigError."""
    found = {}
    for one in told:
        group, _, role = one.rpartition("=")
        if not group or role not in set(Role):
            known = ", ".join(Role)
            raise ConfigError(f"setting 'oidc_roles': {one!r} is no GROUP=ROLE with one of {known}")
        found[group] = Role(role)
    if not found:
        raise ConfigError("setting 'oidc_roles' is needed beside 'oidc_issuer'")
    return found


def _claims(token: object) -> dict[str, Any]:
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:
        raise SignOnError(NO_TOKEN)
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        body = base64.b64decode(padded, altchars=b"-_", validate=True)
    except ValueError as error:
        raise SignOnError(NO_TOKEN) from error
    return _object(body)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SignOnError(NO_TOKEN) from error
    if not isinstance(found, dict):
        raise SignOnError(NO_TOKEN)
    return found


def _bytes(text: str) -> bytes:
    """JSON may hold halves of letters."""
    return text.encode("utf-8", "surrogatepass")


def _number(value: object) -> float:
    """NaN, which compares with nothing, where it is none."""
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if fine else float("nan")  # type: ignore[arg-type]
