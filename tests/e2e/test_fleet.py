"""The compose file's services as processes: its commands and settings, real PostgreSQL and Redis.

No container engine is needed: what the images start is started here, each with a data folder of
its own, so that only database, broker and media are shared.
"""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import environment
from PIL import Image

from moderation.packs import open_packs
from moderation.video.ffmpeg import program
from tests import servers

DOCKER = Path(__file__).resolve().parents[2] / "docker"
ROLES = ("gateway", "media", "infer")
KEY = "mod_fleet_0123456789abcdef0123456789abcdef"
HOOK = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"


def service(role: str) -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"][role]


def from_image(role: str, instruction: str) -> list[str]:
    """The JSON form of an instruction of the role's Dockerfile."""
    path = DOCKER.parent / service(role)["build"]["dockerfile"]
    text = path.read_text("utf-8").replace("\\\n", " ")
    (found,) = re.findall(rf"^{instruction} .*?(\[.*\])$", text, re.MULTILINE)
    return json.loads(found)


def here(command: list[str]) -> list[str]:
    """A command of the image, with this environment's Python."""
    program = (
        [sys.executable] if command[0] == "python" else [sys.executable, "-m", "moderation.cli"]
    )
    return [*program, *command[1:]]


class Fleet:
    """The three services, running. `port`: the gateway's."""

    def __init__(self, folder: Path, database: str, broker: str) -> None:
        self._folder = folder
        self.broker = broker
        self.port = servers.free_port()
        self._real = {
            "MODERATION_DATABASE_URL": database,
            "MODERATION_BROKER_URL": broker,
            "MODERATION_BLOB_URL": (folder / "media").as_uri(),
            "MODERATION_WEBHOOK_SECRETS": HOOK,
            "MODERATION_BOOTSTRAP_KEY": KEY,
            "MODERATION_LOG_LEVEL": "INFO",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, role: str) -> dict[str, str]:
        """The service's own settings, with the servers of this test in their place."""
        named = {name: self._real[name] for name in service(role)["environment"]}
        home = self._folder / role
        return environment(home, **named, MODERATION_PORT=str(self.port))

    def start(self, role: str) -> None:
        command = service(role).get("command") or from_image(role, "CMD")
        (self._folder / role).mkdir()
        with (self._folder / f"{role}.log").open("wb") as log:
            self.processes[role] = subprocess.Popen(
                here(command),
                env=self.environment(role),
                cwd=self._folder / role,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        return "\n".join((self._folder / f"{role}.log").read_text()[-2000:] for role in ROLES)

    def healthy(self, role: str) -> bool:
        """The service's health check, as the engine would run it."""
        health = service(role).get("healthcheck")
        command = health["test"][1:] if health else from_image(role, "HEALTHCHECK")
        command = [part.replace(":8000/", f":{self.port}/") for part in command]
        done = subprocess.run(
            here(command), env=self.environment(role), capture_output=True, check=False, timeout=30
        )
        return done.returncode == 0

    def call(
        self, path: str, body: bytes | None = None, kind: str = "image/png"
    ) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=body,
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}


@pytest.fixture
def fleet(
    tmp_path: Path, postgres_server: servers.Postgres, redis_server: servers.Redis
) -> Iterator[Fleet]:
    database = postgres_server.new_database()
    with ExitStack() as stack:
        stack.callback(postgres_server.drop, database)
        made = Fleet(tmp_path, database, redis_server.url.replace("/0", "/7"))
        for role in ROLES:
            made.start(role)
            stack.callback(end, made.processes[role])
        yield made


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


def film(path: Path) -> bytes:
    """A minute and a half of moving grey, with four seconds of red."""
    grey = "testsrc2=size=160x120:rate=10:duration=90,format=gray,format=yuv420p"
    red = "drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,70,74)'"
    words = ["-nostdin", "-v", "error", "-f", "lavfi", "-i", f"{grey},{red}", "-c:v", "libx264"]
    subprocess.run([program(), *words, str(path)], check=True, timeout=60)
    return path.read_bytes()


def test_the_services_of_the_compose_file_moderate_a_picture_and_a_film(
    fleet: Fleet, tmp_path: Path
) -> None:
    deadline = time.monotonic() + 90
    while fleet.call("/ready")[0] != 200:
        assert time.monotonic() < deadline, fleet.log()
        assert all(p.poll() is None for p in fleet.processes.values()), fleet.log()
        time.sleep(0.2)
    assert [role for role in ROLES if not fleet.healthy(role)] == []

    picture = io.BytesIO()
    Image.new("RGB", (64, 48), (255, 0, 0)).save(picture, "png")
    status, verdict = fleet.call("/v1/images?wait=30", picture.getvalue())
    assert status == 200
    assert (verdict["decision"], verdict["models"]) == ("block", ["fake@1"])

    status, accepted = fleet.call("/v1/videos", film(tmp_path / "f.mp4"), "video/mp4")
    assert status == 202, accepted
    job = f"/v1/jobs/{accepted['job_id']}"
    deadline = time.monotonic() + 60
    while (told := fleet.call(job)[1])["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, fleet.log()
        time.sleep(0.1)
    assert (told["state"], told["kind"]) == ("done", "video")
    assert told["progress"]["fraction"] == 1.0
    assert told["progress"]["frames_done"] == told["progress"]["frames_known"] > 80
    verdict = fleet.call(f"/v1/items/{accepted['id']}")[1]["verdict"]
    assert (verdict["decision"], verdict["models"]) == ("block", ["fake@1"])
    assert [(one["label"], one["decision"]) for one in verdict["segments"]] == [
        ("porn.explicit", "block")
    ]
    packs = open_packs(fleet.broker)
    assert packs.keys() == set(), "they went through Redis, and are gone"
    assert not list(tmp_path.glob("*/var/run/packs"))

    for process in fleet.processes.values():
        process.send_signal(signal.SIGTERM)
    codes = {role: process.wait(30) for role, process in fleet.processes.items()}
    assert codes == dict.fromkeys(ROLES, 0), fleet.log()
    assert not fleet.healthy("infer")
