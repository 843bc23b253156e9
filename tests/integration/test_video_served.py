"""Films through the API of a real server: twice the same, a copy, one that is called off."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from media import write
from served import KEY, Served, until

pytestmark = pytest.mark.slow

ENDED = ("done", "failed", "cancelled")


class Api:
    def __init__(self, served: Served) -> None:
        self.served = served
        headers = {"Authorization": f"Bearer {KEY}"}
        self._client = httpx.Client(base_url=served.url, headers=headers, timeout=30)

    def post(self, film: Path, **query: str) -> tuple[int, dict[str, Any]]:
        answer = self._client.post(
            "/v1/videos",
            params=query,
            content=film.read_bytes(),
            headers={"Content-Type": "video/mp4"},
        )
        return answer.status_code, answer.json()

    def get(self, path: str) -> dict[str, Any]:
        answer = self._client.get(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def cancel(self, job_id: str) -> int:
        return self._client.delete(f"/v1/jobs/{job_id}").status_code

    def verdict(self, accepted: dict[str, Any]) -> dict[str, Any]:
        """Of an accepted film, once its job has ended."""
        path = f"/v1/jobs/{accepted['job_id']}"
        until(lambda: self.get(path)["state"] in ENDED, 60, f"a verdict\n{self.served.tail()}")
        found: dict[str, Any] = self.get(f"/v1/items/{accepted['id']}")["verdict"]
        return found

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with tempfile.TemporaryDirectory(prefix="mf") as folder:
        served = Served(Path(folder) / "home", fake_delay_ms="10")
        try:
            served.start()
            api = Api(served)
            yield api
            api.close()
            assert served.stop() == 0
        finally:
            served.destroy()


def film(path: Path, *, seconds: int, red: tuple[int, int] = (0, 0)) -> Path:
    source = (
        f"mandelbrot=size=320x240:rate=10,trim=duration={seconds},format=gray,format=yuv420p,"
        f"drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,{red[0]},{red[1]})'"
    )
    return write(path, "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast")


def test_two_uploads_of_a_film_are_looked_at_once(api: Api, tmp_path: Path) -> None:
    source = film(tmp_path / "film.mp4", seconds=100, red=(70, 74))
    (first_status, first), (second_status, second) = api.post(source), api.post(source)
    assert (first_status, second_status) == (202, 202)
    seen = []
    path = f"/v1/jobs/{first['job_id']}"
    while (told := api.get(path))["state"] not in ENDED:
        seen.append(told["progress"]["frames_done"])
    assert seen == sorted(seen)
    assert told["progress"]["fraction"] == 1.0
    one, two = api.verdict(first), api.verdict(second)
    assert (one["decision"], one["decided_by"]) == ("block", "policy")
    assert (two["decision"], two["decided_by"]) == ("block", "duplicate")
    assert two["segments"] == one["segments"]
    assert len(one["segments"]) == 1
    third_status, third = api.post(source)
    assert third_status == 200, "it is known"
    assert (third["decided_by"], third["segments"]) == ("duplicate", one["segments"])
    log = api.served.log.read_text()
    assert log.count("round 0: ") == 1, "one film was planned"


def test_another_encoding_is_linked_to_the_film(api: Api, tmp_path: Path) -> None:
    source = film(tmp_path / "film.mp4", seconds=40)
    words = ("-i", str(source), "-c:v", "libx264", "-crf", "33", "-vf", "scale=240:180")
    copy = write(tmp_path / "copy.mp4", *words)
    original, copied = (api.post(one)[1] for one in (source, copy))
    assert api.verdict(original)["status"] == api.verdict(copied)["status"] == "done"
    found = {
        one["item_id"]: one["share"] for one in api.get(f"/v1/items/{copied['id']}")["similar"]
    }
    assert original["id"] in found, api.served.tail()
    assert found[original["id"]] > 0.5


def test_a_film_that_is_called_off_ends_at_once(api: Api, tmp_path: Path) -> None:
    source = film(tmp_path / "film.mp4", seconds=130)
    _, accepted = api.post(source, interval_ms="100")
    path = f"/v1/jobs/{accepted['job_id']}"
    until(lambda: api.get(path)["progress"]["frames_done"] > 0, 30, "it is looked at")
    assert api.cancel(accepted["job_id"]) in (200, 202)
    verdict = api.verdict(accepted)
    assert (verdict["status"], verdict["decision"]) == ("cancelled", "review")
    packs = api.served.home / "run" / "packs"
    until(lambda: not list(packs.iterdir()), 20, "its packs are deleted")


def test_what_is_no_video_inside_is_a_failed_verdict(api: Api, tmp_path: Path) -> None:
    source = film(tmp_path / "film.mp4", seconds=2)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(source.read_bytes()[:200])
    status, accepted = api.post(broken)
    assert status == 202
    verdict = api.verdict(accepted)
    assert (verdict["status"], verdict["decision"]) == ("failed", "review")
    assert verdict["error"]["code"] == "corrupt"
