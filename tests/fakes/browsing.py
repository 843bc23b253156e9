"""A browser without a screen: cookies, forms, and the token that they carry."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import httpx

from moderation.store import accounts, jobs
from moderation.store.engine import Database
from moderation.store.review_records import AccountRow, Role
from moderation.store.submit import submit
from moderation.types import Decision
from tests.contract.store_data import new_item, result_for
from tests.fakes.gateway import Gate

PASSWORD = "correct horse battery"


@dataclass
class Browser:
    """Follows no redirect by itself."""

    gate: Gate
    cookie: str = ""
    csrf: str = ""
    sent: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> httpx.Response:
        answer = self.gate.client.get(path, headers=self._headers(headers))
        if token := re.search(r'name="csrf" value="([0-9a-f]{64})"', answer.text):
            self.csrf = token[1]
        return answer

    def post(self, path: str, form: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        """With the token of the page that was read last, unless the form says otherwise."""
        fields = {"csrf": self.csrf} | (form or {})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(fields, doseq=True)
        return self.gate.client.post(path, content=body, headers=self._headers(kind | headers))

    def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        answer = self.post("/console/sign-in", {"name": name, "password": password})
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
            self.get("/console/account")
        return answer

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        own = {"Authorization": ""} | ({"Cookie": self.cookie} if self.cookie else {})
        return own | more


def person(db: Database, name: str, role: Role, tenant: str = "default") -> AccountRow:
    return accounts.create(db, tenant=tenant, name=name, role=role, password=PASSWORD)


def signed_in(gate: Gate, name: str, role: Role, tenant: str = "default") -> Browser:
    """A browser in which a new person has signed in."""
    person(gate.stack.db, name, role, tenant)
    browser = Browser(gate)
    assert browser.sign_in(name).status_code == 303
    return browser


def audited(db: Database, content: object, *, drawn: bool = True, **changes: Any) -> str:
    """An item that the policy passed; drawn: for people to look at all the same."""
    found = submit(db, new_item(content, **changes))
    claimed = jobs.claim(db, found.job_id, owner="w", lease_s=30.0)
    assert claimed is not None
    done = replace(result_for(claimed, Decision.PASS), drawn=drawn)
    assert jobs.finish(db, claimed, done)
    return found.item_id


def waiting(db: Database, content: object, score: float = 0.6, **changes: Any) -> str:
    """An item of which the models want a person to decide."""
    found = submit(db, new_item(content, **changes))
    claimed = jobs.claim(db, found.job_id, owner="w", lease_s=30.0)
    assert claimed is not None
    done = result_for(claimed, Decision.REVIEW)
    reasons = [one.model_copy(update={"score": score}) for one in done.verdict.reasons]
    done = replace(done, verdict=done.verdict.model_copy(update={"reasons": reasons}))
    assert jobs.finish(db, claimed, done)
    return found.item_id
