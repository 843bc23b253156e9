"""Evidence end to end: `serve` with its workers, a film in, stills and a proxy out, all deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from media import write
from served import KEY, Served, picture, until

from moderation.video.probe import ProbeLimits, probe

POLICY = """
id: default
version: 1
rules:
  - {label: porn.explicit, review_at: 0.7, block_at: 0.9, min_frames: 2, window: 3}
  - {label: violence.weapon, review_at: 0.7, block_at: 0.9, block_needs: evidence}
"""
LONG_S = 40


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "default.yaml").write_text(POLICY)
    policies = str(tmp_path / "policies")
    served = Served(tmp_path / "home", policy_dir=policies, backend="fake", audit_share="1")
    served.start()
    try:
        yield served
        served.stop()
    finally:
        served.destroy()


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=served.url, headers=headers, timeout=120) as client:
        yield client


def film(path: Path, seconds: int, size: str) -> bytes:
    """Moving grey, red from 10 to 13 s, cyan from 20 to 23 s with a green patch from 21 s on."""
    red = "drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,10,12.99)'"
    cyan = "drawbox=w=iw:h=ih:color=cyan:t=fill:enable='between(t,20,22.99)'"
    lime = "drawbox=x=iw/4:y=ih/4:w=iw/2:h=ih/2:color=lime:t=fill:enable='between(t,21,22.99)'"
    moving = f"testsrc2=size={size}:rate=25:duration={seconds},format=gray,format=yuv420p"
    source = ",".join([moving, red, cyan, lime])
    words = ("-f", "lavfi", "-i", source, "-preset", "ultrafast", "-g", "250")
    return write(path, *words).read_bytes()


def submitted(client: httpx.Client, data: bytes) -> dict[str, object]:
    answer = client.post("/v1/videos?wait=60", content=data, headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 200, answer.text
    told: dict[str, object] = answer.json()
    return told


@pytest.mark.slow
def test_a_film_can_be_looked_at_and_forgotten(
    served: Served, client: httpx.Client, tmp_path: Path
) -> None:
    verdict = submitted(client, film(tmp_path / "film.mp4", 30, "320x180"))
    assert verdict["decision"] == "block"
    item = f"/v1/items/{verdict['id']}"
    told = client.get(f"{item}/evidence").json()
    segment, gun = told["segments"]
    assert 10 <= segment["peak_s"] <= 13
    assert (segment["boxes"], segment["boxes_still"]) == ([], None)
    assert (gun["label"], gun["decision"], gun["sublabel"]) == (
        "violence.weapon",
        "block",
        "pistol",
    )
    assert 21 <= gun["boxes_s"] < 23
    (box,) = gun["boxes"]
    assert box[:4] == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.04)
    for link in (*segment["still"].values(), *gun["boxes_still"].values()):
        still = client.get(link, params={"wait": 30})
        assert (still.status_code, still.headers["content-type"]) == (200, "image/webp")
    proxy = client.get(told["proxy"], params={"wait": 60})
    assert proxy.status_code == 200
    path = tmp_path / "proxy.mp4"
    path.write_bytes(proxy.content)
    assert probe(path, ProbeLimits()).info.duration_s == pytest.approx(30, abs=0.1)
    jump = client.get(told["proxy"], headers={"Range": "bytes=100-199"})
    assert (jump.status_code, jump.content) == (206, proxy.content[100:200])
    (series,) = client.get(f"{item}/scores").json()["series"]
    inside = [
        score
        for time_s, score in zip(series["times"], series["scores"]["porn.explicit"], strict=True)
        if 10.1 <= time_s <= 12.9
    ]
    assert inside
    assert min(inside) > 0.9
    assert client.delete(item).status_code == 204
    assert client.get(f"{item}/evidence").status_code == 404
    assert [one for one in (served.home / "media").rglob("*") if one.is_file()] == []
    # Passes are looked at, too: all of them, as it was set.
    grey = {"content": picture(5), "headers": {"Content-Type": "image/png"}}
    passed = client.post("/v1/images", **grey).json()
    assert (passed["decision"], passed["decided_by"]) == ("pass", "policy")
    (row,) = client.get("/v1/reviews").json()["reviews"]
    assert (row["item_id"], row["audit"]) == (passed["id"], True)


@pytest.mark.slow
def test_a_worker_that_dies_costs_time_and_nothing_else(
    served: Served, client: httpx.Client, tmp_path: Path
) -> None:
    verdict = submitted(client, film(tmp_path / "film.mp4", LONG_S, "1280x720"))
    path = f"/v1/items/{verdict['id']}/derivatives/proxy.mp4"
    assert client.get(path).status_code == 202
    until(lambda: making(served), 20, "the proxy is being made")
    served.kill("media")
    answer = client.get(path, params={"wait": 60})
    assert answer.status_code == 200, served.tail()
    (tmp_path / "proxy.mp4").write_bytes(answer.content)
    length = probe(tmp_path / "proxy.mp4", ProbeLimits()).info.duration_s
    assert length == pytest.approx(LONG_S, abs=0.1)
    files = (served.home / "run" / "films").rglob("*")
    assert [one.name for one in files if one.is_file() and one.name != "lock"] == []


def making(served: Served) -> bool:
    """Whether a media program of ours writes a proxy just now."""
    for pid in served.look():
        try:
            if b"+faststart" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False
