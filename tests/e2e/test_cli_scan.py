"""`moderation scan` as a process, with scores painted into the pictures (see the fake backend)."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command_line import COMMAND, Done, environment, moderation
from PIL import Image

from moderation.video.ffmpeg import program

BLACK, RED, DARK_RED = (0, 0, 0), (255, 0, 0), (150, 0, 0)


def paint(path: Path, colour: tuple[int, int, int], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), colour).save(path, **options)
    return path


def bomb(path: Path, side: int = 30_000) -> None:
    """A PNG of some 100 kB that is 900 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(1)
    row = b"\0" * (side // 8 + 1)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


POLICY = """
id: {name}
version: 1
rules:
  - {{label: porn.explicit, review_at: {review}, block_at: 0.9}}
"""


@pytest.fixture(autouse=True)
def policies(tmp_path: Path) -> dict[str, str]:
    """Settings with policies of the test's own: the shipped thresholds may move."""
    folder = tmp_path / "policies"
    folder.mkdir()
    for name, review in (("mild", 0.5), ("stern", 0.3)):
        (folder / f"{name}.yaml").write_text(POLICY.format(name=name, review=review))
    return {"MODERATION_POLICY_DIR": str(folder), "MODERATION_DEFAULT_POLICY": "mild"}


@pytest.fixture
def run(tmp_path: Path, policies: dict[str, str]) -> partial[Done]:
    return partial(moderation, "scan", home=tmp_path / "home", **policies)


class TestBadFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "bad"
        good = paint(folder / "good.jpg", BLACK, quality=95)
        data = good.read_bytes()
        (folder / "sub").mkdir()
        (folder / "sub/really-a-jpeg.png").write_bytes(data)
        (folder / ".hidden.jpg").write_bytes(data)
        (folder / "empty.jpg").touch()
        (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
        (folder / "notes.txt").write_text("no picture at all")
        (folder / "rubbish.jpg").write_bytes(os.urandom(4096))
        bomb(folder / "bomb.png")
        os.mkfifo(folder / "pipe.jpg")
        return folder

    def test_every_file_has_its_line_and_no_bad_one_passes(
        self, run: partial[Done], folder: Path
    ) -> None:
        done = run("bad", "--json")
        verdicts = {v["source"]: v for v in done.lines()}
        codes = {name: (v["error"] or {}).get("code") for name, v in verdicts.items()}
        assert codes == {
            "bad/.hidden.jpg": None,
            "bad/bomb.png": "too_many_pixels",
            "bad/empty.jpg": "empty_file",
            "bad/good.jpg": None,
            "bad/notes.txt": "unsupported_format",
            "bad/pipe.jpg": "unreadable",
            "bad/rubbish.jpg": "unsupported_format",
            "bad/sub/really-a-jpeg.png": None,
            "bad/truncated.jpg": "truncated",
        }
        assert [v["source"] for v in done.lines()] == list(codes)
        for name, code in codes.items():
            verdict = verdicts[name]
            assert (verdict["decision"] == "pass") == (code is None), name
            assert verdict["status"] == ("done" if code is None else "failed")
            assert code is None or verdict["reasons"][0]["detail"]
        assert done.code == 3
        assert done.err == ""

    def test_the_table_says_the_same(self, run: partial[Done], folder: Path) -> None:
        done = run("bad")
        rows = [line.split("\t") for line in done.out.splitlines()]
        assert [row[0] for row in rows].count("pass") == 3
        assert ["review", "bad/empty.jpg", "failure.empty_file (the file is empty)"] in rows
        assert "9 scanned: 3 pass, 6 review, 0 block; 6 could not be analysed" in done.err
        assert done.code == 3


class TestVideo:
    """Red is what the fake models take for porn; `mild` reviews it from 0.5."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "films"
        folder.mkdir()
        red = "drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,8.2,11.2)'"
        dark = "format=gray,lutyuv=y=val/3,format=yuv420p"
        film = f"testsrc2=size=160x120:rate=25:duration=20,{dark},{red}"
        inputs = ("-f", "lavfi", "-i", film, "-f", "lavfi", "-i", "sine=duration=20")
        words = (*inputs, "-c:v", "libx264", "-preset", "ultrafast", str(folder / "film.mp4"))
        subprocess.run([program(), "-nostdin", "-v", "error", *words], check=True, timeout=60)
        data = (folder / "film.mp4").read_bytes()
        (folder / "cut.mp4").write_bytes(data[: len(data) // 2])
        (folder / "named.jpg").write_bytes(data)
        (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:2,\nfilm.mp4\n")
        return folder

    def test_a_film_has_segments_and_a_broken_one_is_no_pass(
        self, run: partial[Done], folder: Path
    ) -> None:
        done = run("films", "--json")
        verdicts = {v["source"]: v for v in done.lines()}
        for name in ("films/film.mp4", "films/named.jpg"):
            verdict = verdicts[name]
            assert (verdict["status"], verdict["error"]) == ("done", None)
            (segment,) = verdict["segments"]
            assert segment["label"] == "porn.explicit"
            assert segment["start_s"] == pytest.approx(8.2, abs=0.3)
            assert segment["end_s"] == pytest.approx(11.2, abs=0.3)
            assert verdict["decision"] == segment["decision"] != "pass"
            assert "sound not analysed (aac)" in verdict["coverage"]["notes"]
        for name, code in (("cut", "corrupt"), ("playlist", "unsupported_format")):
            verdict = verdicts[f"films/{name}.mp4"]
            assert (verdict["status"], verdict["decision"]) == ("failed", "review")
            assert verdict["error"]["code"] == code
        assert done.code == 3

    def test_without_ffmpeg_films_fail_in_one_line(self, run: partial[Done], folder: Path) -> None:
        done = run("films/film.mp4", "--json", MODERATION_FFMPEG=str(folder / "none"))
        (verdict,) = done.lines()
        assert (verdict["status"], verdict["decision"]) == ("failed", "review")
        assert "there is no ffmpeg at" in verdict["error"]["detail"]


class TestExitCodes:
    @pytest.mark.parametrize(
        ("colour", "decision", "plain", "review", "block"),
        [(BLACK, "pass", 0, 0, 0), (DARK_RED, "review", 0, 1, 0), (RED, "block", 0, 1, 1)],
    )
    def test_fail_on(
        self,
        run: partial[Done],
        tmp_path: Path,
        colour: tuple[int, int, int],
        decision: str,
        plain: int,
        review: int,
        block: int,
    ) -> None:
        paint(tmp_path / "a.png", colour)
        done = run("a.png", "--json")
        assert [v["decision"] for v in done.lines()] == [decision]
        assert done.code == plain
        assert run("a.png", "--json", "--fail-on", "review").code == review
        assert run("a.png", "--json", "--fail-on", "block").code == block

    def test_a_finding_outranks_a_failure(self, run: partial[Done], tmp_path: Path) -> None:
        paint(tmp_path / "a.png", RED)
        assert run("a.png", "missing.png", "--fail-on", "block").code == 1
        assert run("a.png", "missing.png").code == 3

    @pytest.mark.parametrize(
        "args",
        [
            ("a.png", "--policy", "no-such"),
            ("a.png", "--fail-on", "maybe"),
            ("a.png", "--config", "missing.toml"),
            (),
        ],
    )
    def test_a_wrong_command_line_is_one_line_and_2(
        self, run: partial[Done], args: tuple[str, ...]
    ) -> None:
        done = run(*args)
        assert done.code == 2
        assert done.out == ""
        assert len(done.err.splitlines()) == 1

    def test_missing_weights_are_one_line_with_what_mends_them(
        self, run: partial[Done], tmp_path: Path
    ) -> None:
        paint(tmp_path / "a.png", BLACK)
        done = run(
            "a.png", MODERATION_BACKEND="openvino", MODERATION_WEIGHTS_CACHE=str(tmp_path / "none")
        )
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert "moderation weights pull" in done.err

    def test_policies_differ(self, run: partial[Done], tmp_path: Path) -> None:
        paint(tmp_path / "a.png", (110, 0, 0))
        decided = {
            policy: run("a.png", "--json", "--policy", policy).lines()[0]
            for policy in ("mild", "stern")
        }
        assert decided["mild"]["decision"] == "pass"
        assert decided["stern"]["decision"] == "review"
        assert decided["stern"]["policy"] == "stern@1"


class TestSources:
    def test_a_glob_of_our_own(self, run: partial[Done], tmp_path: Path) -> None:
        for name in ("a1.png", "a2.png", "b.png"):
            paint(tmp_path / name, BLACK)
        assert [v["source"] for v in run("a*.png", "--json").lines()] == ["a1.png", "a2.png"]

    def test_a_url_only_where_it_may_go(self, run: partial[Done], tmp_path: Path) -> None:
        picture = paint(tmp_path / "a.png", BLACK).read_bytes()
        with serving(picture) as url:
            (refused,) = run(url, "--json").lines()
            (allowed,) = run(url, "--json", MODERATION_FETCH_ALLOW="127.0.0.1").lines()
        assert refused["error"]["code"] == "fetch_forbidden"
        assert refused["decision"] == "review"
        assert (allowed["source"], allowed["decision"]) == (url, "pass")

    def test_names_that_the_locale_cannot_spell(self, run: partial[Done], tmp_path: Path) -> None:
        paint(tmp_path / "in/caf\u00e9\n\x1b[31m.png", BLACK)
        latin = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        assert [v["source"] for v in run("in", "--json", **latin).lines()] == [
            "in/caf\u00e9\n\x1b[31m.png"
        ]
        assert run("in", **latin).out == "pass\tin/caf\\xe9\\n\\x1b[31m.png\n"

    def test_resume_leaves_out_what_is_done(self, run: partial[Done], tmp_path: Path) -> None:
        for number in range(4):
            paint(tmp_path / f"in/{number}.png", RED if number == 0 else BLACK)
        (tmp_path / "in/bad").write_text("no picture")
        first = run("in", "--json", "--resume", "state")
        assert len(first.lines()) == 5
        paint(tmp_path / "in/4.png", BLACK)
        again = run("in", "--json", "--resume", "state", "--fail-on", "block")
        assert [v["source"] for v in again.lines()] == ["in/4.png", "in/bad"]
        assert again.code == 1  # what was found before still counts
        assert len(run("in", "--json").lines()) == 6

    def test_killed_and_resumed_nothing_is_lost(
        self, run: partial[Done], tmp_path: Path, policies: dict[str, str]
    ) -> None:
        for number in range(60):
            paint(tmp_path / f"in/{number:02}.png", BLACK)
        slow = environment(tmp_path / "home", MODERATION_FAKE_DELAY_MS="60", **policies)
        with subprocess.Popen(
            [*COMMAND, "scan", "in", "--json", "--resume", "state"],
            env=slow | {"MODERATION_MAX_BATCH": "1"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            seen = [json.loads(process.stdout.readline())["source"] for _ in range(5)]
            process.kill()
            seen += [json.loads(line)["source"] for line in process.stdout if line.endswith("\n")]
        rest = run("in", "--json", "--resume", "state")
        found = seen + [v["source"] for v in rest.lines()]
        # A line may have been printed and not noted yet: that one alone comes twice.
        assert sorted(set(found)) == [f"in/{number:02}.png" for number in range(60)]
        assert len(found) <= 61
        assert len(rest.lines()) < 60


class TestInterrupt:
    def test_ctrl_c_ends_at_once_with_what_there_is(self, tmp_path: Path) -> None:
        for number in range(400):
            paint(tmp_path / f"in/{number:03}.png", BLACK)
        with subprocess.Popen(
            [*COMMAND, "scan", "in"],
            env=environment(
                tmp_path / "home", MODERATION_FAKE_DELAY_MS="50", MODERATION_MAX_BATCH="1"
            ),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # As from a terminal: a shell starts its background jobs with SIGINT ignored.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=15)
        assert process.returncode == 130
        assert all(line.startswith("pass\tin/") for line in out.splitlines())
        assert len(out.splitlines()) < 399
        assert err.startswith("interrupted; ")
        assert "Traceback" not in err

    def test_a_reader_that_leaves_is_no_traceback(self, tmp_path: Path) -> None:
        for number in range(50):
            paint(tmp_path / f"in/{number:02}.png", BLACK)
        with subprocess.Popen(
            [*COMMAND, "scan", "in", "--json"],
            env=environment(tmp_path / "home"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            err = process.stderr.read()
            assert process.wait(30) == 1
        assert err == ""


def test_on_a_terminal_rows_stand_above_a_bar(tmp_path: Path, policies: dict[str, str]) -> None:
    for number in range(3):
        paint(tmp_path / f"in/{number}.png", RED if number == 1 else BLACK)
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [*COMMAND, "scan", "in"],
            env=environment(tmp_path / "home", TERM="xterm", COLUMNS="120", LINES="40", **policies),
            cwd=tmp_path,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            shown = read_all(ours)
        assert process.returncode == 0
    finally:
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    rows = [line.split() for line in re.findall(r"(?:pass|block) +in/\d\.png.*", text)]
    assert [row[:2] for row in rows] == [
        ["pass", "in/0.png"],
        ["block", "in/1.png"],
        ["pass", "in/2.png"],
    ]
    assert "porn.explicit 1.00" in text
    assert "3/3" in text
    assert "3 scanned: 2 pass, 0 review, 1 block" in text


def read_all(descriptor: int) -> str:
    """What a terminal was sent, until the last process has closed it (EIO on Linux)."""
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def test_memory_is_flat_over_many_files(tmp_path: Path) -> None:
    """Ten times the files, the same memory."""
    for number in range(400):
        paint(tmp_path / f"in/{number:03}.png", BLACK)

    def peak(what: str) -> int:
        with subprocess.Popen(
            [*COMMAND, "scan", what, "--json"],
            env=environment(tmp_path / "home"),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss

    few, many = peak("in/00*.png"), peak("in")
    assert many < few + 25_000  # kB


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    """A server on loopback that answers every GET with `body`; yields a URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/a.png"
        finally:
            server.shutdown()
