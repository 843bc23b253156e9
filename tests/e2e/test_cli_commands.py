"""The other commands, as processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest
from command_line import COMMAND, environment, moderation

from moderation import __version__
from moderation.cli import main
from moderation.cli.shown import effective
from moderation.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    "scan",
    "watch",
    "serve",
    "gateway",
    "worker",
    "doctor",
    "config",
    "eval",
    "version",
    "weights",
    "keys",
    "train",
    "weights|pull",
    "weights|list",
    "weights|verify",
    "keys|create",
    "keys|list",
    "keys|revoke",
    "lists",
    "lists|list",
    "lists|import",
    "train|heads",
]
GROUPS = ("weights", "keys", "lists", "train")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_help(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*command.split("|"), "--help"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"Usage: moderation {command.replace('|', ' ')} ")
        assert "--json" in out or command in GROUPS

    def test_help_loads_nothing_heavy(self, home: Path) -> None:
        heavy = [
            "numpy",
            "cv2",
            "openvino",
            "celery",
            "sqlalchemy",
            "pydantic_settings",
            "rich",
            "redis",
            "torch",
        ]
        code = (
            "import sys; from moderation.cli import main; code = main(['--help']); "
            f"loaded = [name for name in {heavy!r} if name in sys.modules]; "
            "sys.exit(code or (' '.join(loaded) if loaded else 0))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("args", [(), ("keys",), ("weights",)])
    def test_no_command_is_help_and_2(self, args: tuple[str, ...], home: Path) -> None:
        done = moderation(*args, home=home)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("Usage: moderation")

    def test_an_unknown_command_is_one_line_and_2(self, home: Path) -> None:
        done = moderation("scam", home=home)
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert done.err.startswith("moderation: No such command 'scam'.")

    def test_version(self, home: Path) -> None:
        assert moderation("version", home=home).out == f"moderation {__version__}\n"
        assert moderation("version", "--json", home=home).json()["version"] == __version__


class TestConfig:
    def test_where_each_setting_came_from(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "m.toml").write_text("port = 9001\nmax_batch = 3\n")
        found = moderation(
            "config", "--config", "m.toml", "--json", home=home, MODERATION_MAX_BATCH="5"
        ).json()
        assert list(found) == list(Settings.model_fields)
        assert found["port"] == {"value": 9001, "from": "file"}
        assert found["max_batch"] == {"value": 5, "from": "environment"}
        assert found["decoders"] == {"value": 2, "from": "default"}
        assert found["home"] == {"value": str(home), "from": "environment"}

    def test_secrets_are_masked_unless_revealed(self, home: Path) -> None:
        secret = {
            "MODERATION_BOOTSTRAP_KEY": "sesame-key",
            "MODERATION_WEBHOOK_SECRETS": "sesame-hook,sesame-old",
            "MODERATION_DATABASE_URL": "postgresql+psycopg://me:sesame-db@host/moderation",
            "MODERATION_BROKER_URL": "redis://:sesame-broker@host/0",
        }
        for form in ("--json", "--toml"):
            masked = moderation("config", form, home=home, **secret).out
            assert "sesame" not in masked
            assert "me:********@host/moderation" in masked
            # The mask itself must never come into force.
            assert form == "--json" or "********" not in str(tomllib.loads(masked))
            assert moderation("config", form, "--reveal", home=home, **secret).out.count("sesame-")
        assert "sesame" not in moderation("config", home=home, **secret).out

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://:p/a@ss:w@host:6379/0", "redis://:********@host:6379/0"),
            ("postgresql://me:pw@h/db", "postgresql://me:********@h/db"),
            (
                "postgresql://h/db?user=me&password=pw",
                "postgresql://h/db?user=me&password=********",
            ),
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("sqlite:////srv/a:b.db", "sqlite:////srv/a:b.db"),
        ],
    )
    def test_passwords_in_urls(self, url: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODERATION_DATABASE_URL", url)
        (found,) = (s.value for s in effective(None) if s.name == "database_url")
        assert found == shown

    def test_toml_is_a_settings_file(self, home: Path, tmp_path: Path) -> None:
        chosen = {
            "MODERATION_PORT": "9002",
            "MODERATION_FETCH_ALLOW": "10.0.0.0/8,media.local",
            "MODERATION_DATABASE_URL": 'sqlite:///a"b\\c.db',
        }
        text = moderation("config", "--toml", home=home, **chosen).out
        assert tomllib.loads(text)["fetch_allow"] == ["10.0.0.0/8", "media.local"]
        (tmp_path / "m.toml").write_text(text)
        before = moderation("config", "--json", home=home, **chosen).json()
        after = moderation("config", "--json", "--config", "m.toml", home=home).json()
        values = [{name: field["value"] for name, field in f.items()} for f in (before, after)]
        assert values[0] == values[1]

    @pytest.mark.parametrize(
        ("text", "words"), [("prot = 1", "'prot'"), ("port = 'x'", "'port'"), ("=", "m.toml")]
    )
    def test_a_bad_file_is_one_line_and_2(
        self, text: str, words: str, home: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "m.toml").write_text(text)
        done = moderation("config", "--config", "m.toml", home=home)
        assert done.code == 2
        assert len(done.err.splitlines()) == 1
        assert words in done.err

    def test_the_reference_in_the_documents_is_the_current_one(self, home: Path) -> None:
        text = (ROOT / "docs" / "settings.md").read_text("utf-8")
        assert moderation("config", "--markdown", home=home).out == text


class TestKeys:
    def test_create_list_revoke(self, home: Path) -> None:
        made = moderation("keys", "create", "uploads", "--tenant", "shop", "--json", home=home)
        key = made.json()
        assert key["key"].startswith("mod_")
        assert key["scopes"] == ["media:write", "results:read"]
        listed = moderation("keys", "list", "--json", home=home)
        (row,) = listed.json()
        assert (row["id"], row["tenant"], row["revoked"]) == (key["id"], "shop", None)
        assert key["key"] not in listed.out
        assert moderation("keys", "revoke", key["id"], home=home).code == 0
        assert moderation("keys", "list", "--json", home=home).json()[0]["revoked"]

    def test_the_secret_alone_goes_to_stdout(self, home: Path) -> None:
        done = moderation("keys", "create", "admin", "--scope", "admin", home=home)
        assert done.out.startswith("mod_")
        assert len(done.out.split()) == 1

    def test_a_home_that_cannot_be_made_is_one_line_and_2(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        done = moderation("keys", "list", home=tmp_path / "file")
        assert done.code == 2
        assert "cannot use the data folder" in done.err
        assert len(done.err.splitlines()) == 1

    def test_an_unknown_scope_or_key_is_one_line_and_2(self, home: Path) -> None:
        for args in (("create", "a", "--scope", "everything"), ("revoke", "key_0")):
            done = moderation("keys", *args, home=home)
            assert (done.code, done.out) == (2, "")
            assert len(done.err.splitlines()) == 1


class TestWeights:
    def test_list_names_licence_and_labels(self, home: Path) -> None:
        specs = moderation("weights", "list", "--json", home=home).json()
        assert all(spec["licence"] for spec in specs)
        assert {label["label"] for spec in specs for label in spec["labels"]} >= {
            "porn.explicit",
            "violence.gore",
        }

    def test_verify_finds_missing_and_changed_files(self, home: Path, tmp_path: Path) -> None:
        weights = tmp_path / "weights"
        shutil.copytree(ROOT / "weights/scenes", weights / "scenes")

        def faults() -> tuple[int, set[str | None]]:
            done = moderation(
                "weights", "verify", "--json", home=home, MODERATION_WEIGHTS_DIR=str(weights)
            )
            return done.code, {row["fault"] for row in done.json()}

        assert faults() == (0, {None})
        binary = weights / "scenes" / "model.bin"
        data = bytearray(binary.read_bytes())
        data[1000] ^= 1
        binary.write_bytes(data)
        assert faults() == (1, {None, "wrong_sha256"})
        binary.unlink()
        assert faults() == (1, {None, "missing"})

    def test_no_manifest_is_one_line_and_2(self, home: Path, tmp_path: Path) -> None:
        done = moderation("weights", "list", home=home, MODERATION_WEIGHTS_DIR=str(tmp_path))
        assert done.code == 2
        assert len(done.err.splitlines()) == 1


class TestDoctor:
    def test_healthy(self, home: Path) -> None:
        if moderation("weights", "verify", home=home).code:
            pytest.skip("the weights are not pulled: `make install`")
        done = moderation("doctor", "--json", home=home)
        checks = {check["name"]: check for check in done.json()["checks"]}
        assert (done.code, done.json()["healthy"]) == (0, True)
        assert {"python", "cpu", "packages", "weights", "decoders", "broker"} <= set(checks)
        assert checks["model fake@1"]["detail"] == "fake, f32"
        assert not home.exists()  # it looks, and makes nothing

    def test_broken_parts_are_named_with_what_mends_them(self, home: Path, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (tmp_path / "weights").mkdir()
        done = moderation(
            *("doctor", "--json"),
            home=home,
            MODERATION_BROKER_URL=f"redis://127.0.0.1:{port}/0",
            MODERATION_DATABASE_URL=f"postgresql+psycopg://127.0.0.1:{port}/none",
            MODERATION_WEIGHTS_DIR=str(tmp_path / "weights"),
            MODERATION_DEFAULT_POLICY="nope",
            MODERATION_OIDC_ISSUER="https://id.example",
        )
        broken = {c["name"] for c in done.json()["checks"] if c["state"] == "broken"}
        assert broken == {"broker", "database", "weights", "policies", "sign-in"}
        assert done.code == 1
        mends = [c["mend"] for c in done.json()["checks"] if c["name"] in ("broker", "weights")]
        assert all(mends)


class TestProcesses:
    def test_serve_becomes_the_supervisor_and_says_where(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with subprocess.Popen(
            [*COMMAND, "serve", "--port", str(port), "--json"],
            env=environment(home),
            cwd=home.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            try:
                said = json.loads(process.stdout.readline())
                assert said == {
                    "role": "serve",
                    "pid": process.pid,
                    "url": f"http://127.0.0.1:{port}",
                    "home": str(home),
                }
                assert _answers(f"{said['url']}/live", within_s=60)
            finally:
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
                assert process.wait(30) == 0

    @pytest.mark.parametrize("command", ["serve", "gateway", "worker"])
    def test_a_bad_setting_starts_nothing(self, command: str, home: Path) -> None:
        done = moderation(command, home=home, MODERATION_PORT="many")
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert not home.exists()

    @pytest.mark.parametrize("command", ["serve", "gateway"])
    def test_an_identity_provider_that_cannot_be_used_starts_nothing(
        self, command: str, home: Path
    ) -> None:
        done = moderation(command, home=home, MODERATION_OIDC_ISSUER="https://id.example")
        assert (done.code, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert "oidc_client_id" in line
        assert not (home / "moderation.db").exists(), "nor is a key made, and shown"

    def test_no_worker_no_health(self, home: Path) -> None:
        moderation("keys", "list", home=home)  # makes the database
        done = moderation("worker", "--probe", "--json", home=home)
        assert (done.code, done.json()) == (1, {"ready": False, "workers": []})


def _answers(url: str, *, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.1)
    return False


class TestUsers:
    def test_made_listed_changed(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        made = moderation("users", "create", "anna", "--role", "admin", "--json", home=home)
        told = made.json()
        assert (made.code, told["name"], told["role"]) == (0, "anna", "admin")
        assert len(told["password"]) >= 16
        again = moderation("users", "create", "anna", home=home)
        assert (again.code, again.out) == (2, "")
        assert "anna" in again.err
        assert moderation("users", "create", "ben", home=home).out.strip()
        changed = moderation("users", "change", "ben", "--role", "lead", "--disable", home=home)
        assert (changed.code, changed.out) == (0, "")
        rows = moderation("users", "list", "--json", home=home).json()
        assert [(row["name"], row["role"], row["disabled"]) for row in rows] == [
            ("anna", "admin", False),
            ("ben", "lead", True),
        ]
        assert "password" not in str(rows)

    @pytest.mark.parametrize(
        "words",
        [
            ("create", "Anna!"),
            ("create", "anna", "--role", "king"),
            ("create", "anna", "--password-stdin"),
            ("change", "anna"),
            ("change", "nobody", "--disable"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, tmp_path: Path, words: tuple[str, ...]) -> None:
        done = moderation("users", *words, home=tmp_path / "home")
        assert (done.code, done.out) == (2, "")
        assert done.err.count("\n") == 1
