"""What the documents show is what the project does."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moderation.cli.app import build, main
from moderation.models.spec import read_spec, read_specs
from moderation.models.training import figures_text
from moderation.models.training.leftout import Measured, read_measured
from moderation.policy import parse_policy
from moderation.tasks import webhooks
from moderation.types import Verdict

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("weights/*/*.md")])


def blocks(language: str) -> list[str]:
    """The README's blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def block(language: str) -> str:
    (found,) = blocks(language)
    return found


def test_the_answers_are_verdicts() -> None:
    picture, film = (json.loads(text) for text in blocks("json"))
    assert Verdict.model_validate(picture).to_json() == picture
    assert Verdict.model_validate(picture | film).to_json() == picture | film


def test_the_policy_is_a_policy() -> None:
    assert parse_policy(block("yaml")).ref == "shop@1"


class TestWebhook:
    SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ...").decode()
    BODY = '{"type":"item.decided","data":{"source":"café.jpg"}}'.encode()

    @pytest.fixture
    def genuine(self) -> Callable[[str, dict[str, str], bytes], bool]:
        names: dict[str, Any] = {}
        exec(block("python"), names)  # noqa: S102 - our own README
        return names["genuine"]

    def headers(self, at: float) -> dict[str, str]:
        keys = (b"another key in use", webhooks.parse_secret(self.SECRET))
        return webhooks.headers(keys, "evt_1", "dlv_1", int(at), self.BODY)

    def test_the_receiver_of_the_readme_accepts_what_we_send(
        self, genuine: Callable[[str, dict[str, str], bytes], bool]
    ) -> None:
        assert genuine(self.SECRET, self.headers(time.time()), self.BODY)

    def test_and_nothing_else(self, genuine: Callable[[str, dict[str, str], bytes], bool]) -> None:
        now = self.headers(time.time())
        assert not genuine(self.SECRET, now, self.BODY + b" ")
        assert not genuine(self.SECRET, now | {"webhook-id": "evt_2"}, self.BODY)
        assert not genuine(self.SECRET, self.headers(time.time() - 3600), self.BODY)
        assert not genuine("whsec_" + base64.b64encode(b"x" * 24).decode(), now, self.BODY)


@pytest.fixture(scope="module")
def measured() -> tuple[Measured, ...]:
    return read_measured(read_specs(ROOT / "weights"), ROOT / "weights")


def test_the_figures_are_those_that_the_command_prints(
    measured: tuple[Measured, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "--left-out", "--markdown"]) == 0
    assert figures_text.between(README) == capsys.readouterr().out.strip()
    assert {one.spec.id for one in measured} >= {"scenes", "fights", "scene-heads"}


def test_cards_show_the_same_figures(measured: tuple[Measured, ...]) -> None:
    for one in measured:
        card = (ROOT / "weights" / one.spec.id / "README.md").read_text("utf-8")
        told = figures_text.section(one.spec.id, one.left_out, one.boxes, clips=one.clips)
        assert figures_text.between(card) == told, one.spec.id


def test_every_command_is_in_the_table() -> None:
    app = build()
    names = {command.name for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    rows = re.findall(r"^\| `[a-z].*?\|", README, re.MULTILINE)
    named = {word for row in rows for word in re.findall(r"`(\w+)", row)}
    assert names - named == {"version"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_model_has_card_and_licence() -> None:
    for manifest in ROOT.glob("weights/*/model.toml"):
        assert (manifest.parent / "README.md").is_file()
        spec = read_spec(manifest)
        own = spec.origin.startswith("trained by this project")
        assert own or (manifest.parent / "LICENSE").is_file()
