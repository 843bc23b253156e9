"""Stills, proxies, score curves and deletion over HTTP; a worker is played by the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from api.deps import Gateway
from moderation.blobs import BlobStore
from moderation.errors import BlobError
from moderation.packed_scores import PackedScores
from moderation.policy import load_policies
from moderation.store import derivatives, jobs
from moderation.store.derivatives import DerivativeState, Made
from moderation.store.records import Claim, Finished, NewItem, NewMedia
from moderation.types import Decision, Reason, Segment, Verdict
from tests.fakes.gateway import MODELS, Gate, fake_verdict, png, running

SHA = "5e" * 32
GUN = "violence.weapon"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def picture(gate: Gate) -> str:
    accepted = gate.post(png(), "?wait=0").json()
    gate.stack.finish_silently(accepted["job_id"])
    return str(accepted["id"])


def film(gate: Gate, *, decided: bool = True) -> str:
    """A film of a minute, with a segment, as a media worker leaves it."""
    stack = gate.stack
    key = f"default/{SHA}"
    gate_blobs(gate).put(key, b"film")
    media = NewMedia(sha256=SHA, size=4, format="mp4", blob_key=key, kind="video")
    policy = stack.app.state.gateway.policies.files["default"]
    sent = jobs.submit(stack.db, NewItem(tenant="default", media=media, policy=policy))
    if decided:
        claim = jobs.claim(stack.db, sent.job_id, "w", 30.0)
        assert claim is not None
        assert jobs.finish(
            stack.db,
            claim,
            Finished(verdict_of_film(claim), scores=curve(), duration_s=60.0),
        )
    return sent.item_id


def verdict_of_film(claim: Claim) -> Verdict:
    reason = Reason(
        category="violence",
        label=GUN,
        score=0.97,
        decision=Decision.REVIEW,
        threshold=0.96,
        boxes=[[0.1, 0.2, 0.3, 0.4, 0.9]],
        boxes_s=14.0004,
    )
    segment = Segment(
        label=GUN,
        decision=Decision.REVIEW,
        start_s=12,
        end_s=15.4,
        peak_s=13.2004,
        score=0.97,
        sublabel="pistol",
        boxes=[[0.1, 0.2, 0.3, 0.4, 0.9]],
        boxes_s=14.0004,
    )
    plain = Segment(
        label=GUN, decision=Decision.REVIEW, start_s=40, end_s=41, peak_s=40.5, score=0.96
    )
    changes = {"decision": Decision.REVIEW, "reasons": [reason], "segments": [segment, plain]}
    return fake_verdict(claim).model_copy(update=changes)


def curve() -> PackedScores:
    values = np.array([[0.5, 0.25], [np.nan, np.nan], [0.125, np.nan]], np.float64)
    times = np.array([2.0, 1.0, 0.0], np.float64)
    return PackedScores(("porn.explicit", GUN), MODELS, values, times)


def gate_blobs(gate: Gate) -> BlobStore:
    gateway: Gateway = gate.stack.app.state.gateway
    return gateway.blobs


def make(gate: Gate, data: bytes = b"0123456789", media_type: str = "video/mp4") -> str:
    """Play the worker: make the one that waits; its id."""
    claimed = derivatives.claim(gate.stack.db, lease_s=30)
    assert claimed is not None
    row, _ = claimed
    key = f"derived/default/{row.media_id}/{row.name}"
    gate_blobs(gate).put(key, data)
    assert derivatives.finish(gate.stack.db, row, Made(key, media_type, len(data)))
    return row.id


class TestEvidence:
    def test_a_film_has_a_still_of_every_peak(self, gate: Gate) -> None:
        item = film(gate)
        told = gate.client.get(f"/v1/items/{item}/evidence").json()
        base = f"/v1/items/{item}/derivatives"
        assert (told["kind"], told["duration_s"], told["still"]) == ("video", 60.0, None)
        assert told["proxy"] == f"{base}/proxy.mp4"
        segment, plain = told["segments"]
        assert segment["still"] == {
            "clear": f"{base}/frame-13200.webp",
            "blurred": f"{base}/frame-13200-blur.webp",
        }
        assert segment["boxes"] == [[0.1, 0.2, 0.3, 0.4, 0.9]]
        assert (segment["sublabel"], segment["boxes_s"]) == ("pistol", 14.0004)
        assert segment["boxes_still"] == {
            "clear": f"{base}/frame-14000.webp",
            "blurred": f"{base}/frame-14000-blur.webp",
        }
        assert (plain["boxes"], plain["boxes_s"], plain["boxes_still"]) == ([], None, None)
        assert (segment["label"], segment["peak_s"]) == (GUN, 13.2004)
        links = (*segment["still"].values(), *segment["boxes_still"].values())
        for link in (told["proxy"], *links):
            assert gate.client.get(link).status_code == 202, "every link leads somewhere"

    def test_a_picture_has_itself(self, gate: Gate) -> None:
        item = picture(gate)
        told = gate.client.get(f"/v1/items/{item}/evidence").json()
        assert (told["kind"], told["proxy"], told["segments"]) == ("image", None, [])
        for link in told["still"].values():
            assert gate.client.get(link).status_code == 202

    def test_before_it_is_decided_there_is_the_film_alone(self, gate: Gate) -> None:
        told = gate.client.get(f"/v1/items/{film(gate, decided=False)}/evidence").json()
        assert (told["duration_s"], told["segments"]) == (None, [])
        assert told["proxy"]


class TestScores:
    def test_curves_ascend_and_know_what_was_not_seen(self, gate: Gate) -> None:
        told = gate.client.get(f"/v1/items/{film(gate)}/scores").json()
        (series,) = told["series"]
        assert series["models"] == list(MODELS)
        assert series["times"] == [0.0, 1.0, 2.0]
        assert series["scores"] == {
            "porn.explicit": [0.125, None, 0.5],
            GUN: [None, None, 0.25],
        }
        assert told["thresholds"]["porn.explicit"] == {"review_at": 0.7, "block_at": 0.95}
        assert [segment["label"] for segment in told["segments"]] == [GUN, GUN]
        assert (told["policy"], told["duration_s"]) == (load_policies()["default"].ref, 60.0)

    def test_there_are_none_before_the_verdict(self, gate: Gate) -> None:
        told = gate.client.get(f"/v1/items/{film(gate, decided=False)}/scores").json()
        assert (told["series"], told["segments"]) == ([], [])

    def test_an_answer_from_an_earlier_analysis_has_its_curves(self, gate: Gate) -> None:
        first = gate.client.get(f"/v1/items/{film(gate)}/scores").json()
        again = gate.client.get(f"/v1/items/{film(gate, decided=False)}/scores").json()
        assert again["series"] == first["series"]


class TestDerivatives:
    def test_it_is_made_once_and_then_given_out(self, gate: Gate) -> None:
        path = f"/v1/items/{film(gate)}/derivatives/proxy.mp4"
        first = gate.client.get(path)
        assert (first.status_code, first.headers["Retry-After"]) == (202, "2")
        assert gate.client.get(path).status_code == 202
        derivative_id = make(gate)
        sent = [m.job_id for m, _ in gate.stack.producer.sent if m.kind == "derive"]
        assert sent == [derivative_id], "who asks again sends no second message"
        done = gate.client.get(path)
        assert (done.status_code, done.content) == (200, b"0123456789")
        assert done.headers["Content-Type"] == "video/mp4"
        assert done.headers["Accept-Ranges"] == "bytes"
        assert done.headers["Content-Length"] == "10"

    def test_nothing_in_it_can_act(self, gate: Gate) -> None:
        path = f"/v1/items/{film(gate)}/derivatives/frame-1000.webp"
        gate.client.get(path)
        make(gate, b"webp", "image/webp")
        headers = gate.client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert headers["Cache-Control"] == "private"
        assert headers["Content-Type"] == "image/webp"

    @pytest.mark.parametrize(
        ("asked", "status", "content", "told"),
        [
            ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
            ("bytes=7-", 206, b"789", "bytes 7-9/10"),
            ("bytes=-2", 206, b"89", "bytes 8-9/10"),
            ("nonsense", 200, b"0123456789", None),
        ],
    )
    def test_a_player_may_jump(
        self, gate: Gate, asked: str, status: int, content: bytes, told: str | None
    ) -> None:
        path = f"/v1/items/{film(gate)}/derivatives/proxy.mp4"
        gate.client.get(path)
        make(gate)
        answer = gate.client.get(path, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, content)
        assert answer.headers.get("Content-Range") == told
        assert answer.headers["Content-Length"] == str(len(content))

    def test_but_not_behind_the_end(self, gate: Gate) -> None:
        path = f"/v1/items/{film(gate)}/derivatives/proxy.mp4"
        gate.client.get(path)
        make(gate)
        answer = gate.client.get(path, headers={"Range": "bytes=10-"})
        assert (answer.status_code, answer.json()["code"]) == (416, "range_invalid")
        assert answer.headers["Content-Range"] == "bytes */10"

    def test_who_waits_is_woken(self, gate: Gate) -> None:
        item = film(gate)
        answers: list[int] = []

        def ask() -> None:
            path = f"/v1/items/{item}/derivatives/proxy.mp4?wait=30"
            answers.append(gate.client.get(path).status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        assert gate.stack.producer.queue.get(timeout=10)
        gate.stack.waker.wake(make(gate))
        thread.join(10)
        assert answers == [200]

    def test_what_cannot_be_made_says_why(self, gate: Gate) -> None:
        path = f"/v1/items/{film(gate)}/derivatives/frame-1000.webp"
        gate.client.get(path)
        claimed = derivatives.claim(gate.stack.db, lease_s=30)
        assert claimed is not None
        derivatives.fail(gate.stack.db, claimed[0], "decode_timeout: the file took too long")
        answer = gate.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (422, "decode_timeout")
        assert answer.json()["detail"] == "It cannot be made: the file took too long."

    @pytest.mark.parametrize(
        "name",
        ["picture.webp", "frame-60001.webp", "frame-.webp", "frame-1.png", "proxy.mp4.exe", "x"],
    )
    def test_a_film_has_nothing_else(self, gate: Gate, name: str) -> None:
        answer = gate.client.get(f"/v1/items/{film(gate)}/derivatives/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert derivatives.claim(gate.stack.db, lease_s=30) is None

    def test_a_picture_is_no_film(self, gate: Gate) -> None:
        answer = gate.client.get(f"/v1/items/{picture(gate)}/derivatives/proxy.mp4")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_bytes_that_are_gone_are_told(self, gate: Gate) -> None:
        path = f"/v1/items/{film(gate)}/derivatives/proxy.mp4"
        gate.client.get(path)
        row = derivatives.get(gate.stack.db, make(gate))
        assert row is not None
        assert row.state is DerivativeState.READY
        gate_blobs(gate).delete(str(row.blob_key))
        answer = gate.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "blob_missing")

    def test_a_broker_that_is_away_delays_and_no_more(self, gate: Gate) -> None:
        item = film(gate)
        gate.stack.producer.down = True
        path = f"/v1/items/{item}/derivatives/proxy.mp4"
        assert gate.client.get(path).status_code == 202
        make(gate)
        assert gate.client.get(path).status_code == 200


class TestAccess:
    @pytest.mark.parametrize("path", ["evidence", "scores", "derivatives/proxy.mp4"])
    def test_reading_needs_its_scope_and_tenant(self, gate: Gate, path: str) -> None:
        url = f"/v1/items/{film(gate)}/{path}"
        writer, stranger = gate.stack.key("media:write"), gate.stack.key("admin", tenant="other")
        assert gate.client.get(url, headers=writer).status_code == 403
        assert gate.client.get(url, headers=stranger).status_code == 404
        reader = gate.stack.key("results:read")
        assert gate.client.get(url, headers=reader).status_code in (200, 202)

    def test_deleting_needs_another(self, gate: Gate) -> None:
        url = f"/v1/items/{film(gate)}"
        reader, stranger = gate.stack.key("results:read"), gate.stack.key("admin", tenant="other")
        assert gate.client.delete(url, headers=reader).status_code == 403
        assert gate.client.delete(url, headers=stranger).status_code == 404
        assert gate.client.get(url).status_code == 200
        assert gate.client.delete(url, headers=gate.stack.key("media:write")).status_code == 204


class TestDelete:
    def test_all_of_it_goes(self, gate: Gate, tmp_path: Path) -> None:
        item = film(gate)
        path = f"/v1/items/{item}/derivatives/proxy.mp4"
        gate.client.get(path)
        make(gate)
        assert gate.client.delete(f"/v1/items/{item}").status_code == 204
        for url in (f"/v1/items/{item}", path, f"/v1/items/{item}/scores"):
            assert gate.client.get(url).status_code == 404
        assert gate.client.delete(f"/v1/items/{item}").status_code == 404
        media = tmp_path / "home" / "media"
        assert [one for one in media.rglob("*") if one.is_file()] == []

    def test_the_same_picture_may_come_again_at_once(self, gate: Gate) -> None:
        item = picture(gate)
        assert gate.client.delete(f"/v1/items/{item}").status_code == 204
        again = gate.post(png(), "?wait=0")
        assert again.status_code == 202, again.text
        told = gate.client.get(f"/v1/items/{again.json()['id']}").json()
        key = f"default/{told['media']['sha256'][:2]}/{told['media']['sha256']}"
        assert gate_blobs(gate).get(key) == png()

    def test_not_while_it_is_looked_at(self, gate: Gate) -> None:
        accepted = gate.post(png(), "?wait=0").json()
        assert jobs.claim(gate.stack.db, accepted["job_id"], "w", 30.0)
        answer = gate.client.delete(f"/v1/items/{accepted['id']}")
        assert (answer.status_code, answer.json()["code"]) == (409, "job_running")

    def test_a_store_that_is_away_is_the_sweepers_concern(
        self, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        item = picture(gate)

        def away(key: str) -> None:
            raise BlobError("The media store does not answer.")

        monkeypatch.setattr(gate_blobs(gate), "delete", away)
        assert gate.client.delete(f"/v1/items/{item}").status_code == 204
        assert gate.client.get(f"/v1/items/{item}").status_code == 404

    def test_who_waits_for_a_picture_of_it_is_answered(self, gate: Gate) -> None:
        item = film(gate)
        answers: list[int] = []

        def ask() -> None:
            path = f"/v1/items/{item}/derivatives/proxy.mp4?wait=30"
            answers.append(gate.client.get(path).status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        derivative_id = gate.stack.producer.queue.get(timeout=10)
        assert gate.client.delete(f"/v1/items/{item}").status_code == 204
        gate.stack.waker.wake(str(derivative_id))
        thread.join(10)
        assert answers == [404]
