"""The pool of decoder children: whatever a picture does, the pool goes on and leaves nothing."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moderation.decoder_wire import LENGTH, receive, to_request, to_result
from moderation.decoders import DecoderPool, is_large
from moderation.errors import MediaError, OverloadedError, ServiceError, UnsupportedMediaError
from moderation.images import DecodePlan, decode_image
from moderation.settings import Settings
from moderation.types import InputKey

KEYS = (InputKey(64, 48), InputKey(32, 32, "stretch", "bicubic"))
PLAN = DecodePlan(keys=KEYS, max_pixels=400_000_000, max_frames=16)
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /dev/shm")


def picture(size: tuple[int, int] = (320, 240), fmt: str = "jpeg") -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(stream, fmt)
    return stream.getvalue()


def slow() -> bytes:
    """A GIF that takes many seconds to decode: one frame, repeated in the file."""
    frame = picture((2500, 2500), "gif")
    palette_end = 13 + 3 * 256
    assert frame[10] & 0x87 == 0x87
    return frame[:palette_end] + 400 * frame[palette_end:-1] + b";"


@pytest.fixture(scope="module")
def slow_picture() -> bytes:
    return slow()


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2, timeout_s=20, memory_mib=512, recycle=1000) as made:
        yield made
    assert made.pids == ()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_child_gives_what_the_function_gives(pool: DecoderPool) -> None:
    data = picture((700, 200))
    expected, made = decode_image(data, PLAN), pool.decode(data, PLAN)
    assert made.info == expected.info
    assert made.views == expected.views
    for key in KEYS:
        assert made.pixels[key].dtype == np.uint8
        assert (made.pixels[key] == expected.pixels[key]).all()


def test_pixels_outlive_the_pool_and_are_read_only() -> None:
    with DecoderPool(1, timeout_s=20, memory_mib=512, recycle=10) as pool:
        pixels = pool.decode(picture(), PLAN).pixels[KEYS[0]]
    assert pixels.max() > 200
    assert not pixels.flags.writeable


def test_media_errors_keep_code_and_kind(pool: DecoderPool) -> None:
    pool.warm()
    before = set(pool.pids)
    for data, code in (
        (b"", "empty_file"),
        (b"no picture", "unsupported_format"),
        (picture()[:2000], "truncated"),
    ):
        with pytest.raises(MediaError) as caught:
            pool.decode(data, PLAN)
        assert caught.value.code == code
        assert isinstance(caught.value, UnsupportedMediaError) == (code == "unsupported_format")
    assert set(pool.pids) == before  # a bad picture is no reason to end a child


def test_a_bomb_is_refused_and_the_child_lives(pool: DecoderPool) -> None:
    head = picture((100, 100), "bmp")
    bomb = head[:18] + (60_000).to_bytes(4, "little") * 2 + head[26:]
    with pytest.raises(MediaError) as caught:
        pool.decode(bomb, PLAN)
    assert caught.value.code == "too_many_pixels"
    assert pool.decode(picture(), PLAN).info.width == 320


@linux
def test_memory_is_limited() -> None:
    large = picture((8000, 6000), "bmp")  # 183 MiB as Pillow holds it
    with DecoderPool(1, timeout_s=20, memory_mib=180, recycle=10) as pool:
        with pytest.raises(MediaError) as caught:
            pool.decode(large, PLAN)
        assert caught.value.code == "decode_memory"
        assert pool.decode(picture(), PLAN).info.width == 320


def test_time_is_limited(pool: DecoderPool, slow_picture: bytes) -> None:
    pool.warm()
    before = set(pool.pids)
    start = time.monotonic()
    with pytest.raises(MediaError) as caught:
        pool.decode(slow_picture, PLAN, timeout_s=0.3)
    assert caught.value.code == "decode_timeout"
    assert time.monotonic() - start < 20
    (killed,) = before - set(pool.pids)
    assert gone(killed)
    assert pool.decode(picture(), PLAN).info.width == 320


@linux
def test_a_child_killed_in_the_middle(slow_picture: bytes) -> None:
    with (
        DecoderPool(1, timeout_s=60, memory_mib=512, recycle=10) as pool,
        ThreadPoolExecutor(1) as threads,
    ):
        pool.warm()
        (pid,) = pool.pids
        idle = cpu_ticks(pid)
        pending = threads.submit(pool.decode, slow_picture, PLAN)
        assert eventually(lambda: cpu_ticks(pid) > idle + 10)
        os.kill(pid, signal.SIGKILL)
        error = pending.exception(timeout=20)
        assert isinstance(error, MediaError)
        assert (error.code, "SIGKILL" in error.message) == ("decode_crashed", True)
        assert pool.decode(picture(), PLAN).info.width == 320
        assert pid not in pool.pids


def test_an_idle_child_that_died_is_replaced(pool: DecoderPool) -> None:
    pool.warm()
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert pool.decode(picture(), PLAN).info.width == 320


def test_two_hundred_pictures_with_recycling() -> None:
    seen: set[int] = set()
    with DecoderPool(2, timeout_s=30, memory_mib=512, recycle=60) as pool:
        for index in range(200):
            assert pool.decode(picture((100 + index, 80)), PLAN).info.width == 100 + index
            seen.update(pool.pids)
        assert len(pool.pids) <= 2
    assert len(seen) >= 4
    assert all(gone(pid) for pid in seen)


def test_many_threads_share_few_children(pool: DecoderPool) -> None:
    widths = list(range(100, 160))
    with ThreadPoolExecutor(12) as threads:
        results = list(threads.map(lambda w: pool.decode(picture((w, 90)), PLAN), widths))
    assert [result.info.width for result in results] == widths
    assert len(pool.pids) <= 2


@pytest.mark.parametrize(
    ("data", "large"),
    [
        (picture((4000, 3000), "png"), False),
        (picture((4001, 3000), "png"), True),
        (picture((4001, 3000), "jpeg"), False),
        (b"\xff\xd8" + 2 * (b"\xff\xe1\xff\xff" + bytes(65533)) + picture()[2:], True),
        (b"", False),
        (b"no picture", False),
    ],
)
def test_a_large_picture_is_told_by_its_header(data: bytes, large: bool) -> None:
    assert is_large(data) is large


@linux
def test_large_pictures_are_decoded_one_at_a_time_and_hold_up_no_others(
    slow_picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = picture()
    monkeypatch.setattr("moderation.decoders.is_large", lambda data: data != small)
    with (
        DecoderPool(2, timeout_s=60, memory_mib=512, recycle=10) as pool,
        ThreadPoolExecutor(1) as threads,
    ):
        pool.warm()
        idle = max(map(cpu_ticks, pool.pids))
        pending = threads.submit(pool.decode, slow_picture, PLAN)
        assert eventually(lambda: max(map(cpu_ticks, pool.pids)) > idle + 10)
        with pytest.raises(OverloadedError, match="large"):
            pool.decode(picture((30, 30)), PLAN, timeout_s=0.2)
        assert pool.decode(small, PLAN, timeout_s=30).info.width == 320
        pool.close()
        assert isinstance(pending.exception(timeout=20), ServiceError)


def test_a_large_picture_that_is_damaged_hands_its_turn_on(pool: DecoderPool) -> None:
    for _ in range(2):
        with pytest.raises(MediaError):
            pool.decode(b"\x89PNG\r\n\x1a\n", PLAN, timeout_s=20)


@linux
def test_waiting_for_a_child_is_bounded(slow_picture: bytes) -> None:
    with (
        DecoderPool(1, timeout_s=60, memory_mib=512, recycle=10) as pool,
        ThreadPoolExecutor(1) as threads,
    ):
        pool.warm()
        (pid,) = pool.pids
        idle = cpu_ticks(pid)
        pending = threads.submit(pool.decode, slow_picture, PLAN)
        assert eventually(lambda: cpu_ticks(pid) > idle + 10)
        with pytest.raises(OverloadedError):
            pool.decode(picture(), PLAN, timeout_s=0.2)
        pool.close()  # ends the busy child: its caller is told that it was not the picture
        assert isinstance(pending.exception(timeout=20), ServiceError)


def test_a_closed_pool_decodes_nothing(pool: DecoderPool) -> None:
    pool.warm()
    pids = pool.pids
    pool.close()
    assert all(gone(pid) for pid in pids)
    with pytest.raises(ServiceError, match="closed"):
        pool.decode(picture(), PLAN)


def test_a_child_has_no_secrets_and_ignores_ctrl_c(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERATION_BOOTSTRAP_KEY", "secret")
    pool.warm()
    for pid in pool.pids:
        os.kill(pid, signal.SIGINT)
        if sys.platform == "linux":
            assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    before = pool.pids
    assert pool.decode(picture(), PLAN).info.width == 320
    assert pool.pids == before


@linux
def test_limits_are_set(pool: DecoderPool) -> None:
    pool.warm()
    pool.decode(picture(), PLAN)
    text = "".join(Path(f"/proc/{pid}/limits").read_text() for pid in pool.pids)
    for line in text.splitlines():
        if line.startswith(("Max core file size", "Max file size")):
            assert line.split()[4 if "core" in line else 3] == "0"
        if line.startswith(("Max address space", "Max open files")):
            assert line.split()[3] != "unlimited"


PARENT = """
import sys, threading
from pathlib import Path
from moderation.decoders import DecoderPool
from moderation.images import DecodePlan
from moderation.types import InputKey

Path(sys.argv[2]).open("a").write("main\\n")
if __name__ == "__main__":
    pool = DecoderPool(2, timeout_s=100, memory_mib=512, recycle=10)
    pool.warm()
    print(*pool.pids, flush=True)
    plan = DecodePlan((InputKey(8, 8),), 4 * 10**8, 16)
    pool.decode(Path(sys.argv[1]).read_bytes(), plan)
"""


@linux
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path, slow_picture: bytes) -> None:
    (tmp_path / "slow.gif").write_bytes(slow_picture)
    (tmp_path / "parent.py").write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, "parent.py", "slow.gif", "log"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        start = {pid: cpu_ticks(pid) for pid in pids}
        assert eventually(lambda: any(cpu_ticks(pid) > start[pid] + 20 for pid in pids))
        held = {str(fd.readlink()) for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir()}
        assert any(name.startswith("/memfd:picture") for name in held)  # gone with its holders
        assert not any(name.startswith("/dev/shm") for name in held)
        parent.kill()  # one child is idle, one in the middle of C code
    assert eventually(lambda: all(gone(pid) or zombie(pid) for pid in pids), 5)
    assert (tmp_path / "log").read_text() == "main\n"  # no child ran the parent's main module


def test_nothing_is_left_open() -> None:
    def descriptors() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    with DecoderPool(1, timeout_s=20, memory_mib=512, recycle=5) as pool:
        pool.warm()
        before = descriptors()
        for _ in range(12):
            pool.decode(picture(), PLAN)
            with pytest.raises(MediaError):
                pool.decode(b"junk", PLAN)
        assert descriptors() <= before + 2  # a successor may be starting
    assert threading.active_count() < 20


def test_from_settings(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, decoders=1, decode_recycle=3)
    with DecoderPool.from_settings(settings) as pool:
        assert pool.decode(picture(), PLAN).info.format == "jpeg"
        assert len(pool.pids) == 1


GOOD_INFO = {
    "format": "png",
    "width": 1,
    "height": 1,
    "frames_total": 1,
    "frames_decoded": 1,
    "frames_failed": 0,
    "size_bytes": 1,
    "trailing_bytes": 0,
    "pdq": "0" * 64,
    "pdq_quality": 1,
}
GOOD_VIEW = [0, 0.0, [0, 0, 1, 1], "opaque"]


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"info": GOOD_INFO, "views": []},
        {"info": GOOD_INFO, "views": [GOOD_VIEW] * 65},
        {"info": GOOD_INFO, "views": [[0, 0.0, [0, 0, 2, 1], "opaque"]]},
        {"info": GOOD_INFO, "views": [[0, float("nan"), [0, 0, 1, 1], "opaque"]]},
        {"info": GOOD_INFO, "views": [[0, 0.0, [0, 0, 1, 1], "pink"]]},
        {"info": GOOD_INFO | {"format": "<script>"}, "views": [GOOD_VIEW]},
        {"info": GOOD_INFO | {"pdq": "<script>"}, "views": [GOOD_VIEW]},
        {"info": GOOD_INFO | {"width": "wide"}, "views": [GOOD_VIEW]},
    ],
)
def test_what_a_child_says_is_checked(reply: dict[str, object]) -> None:
    plan = DecodePlan(keys=(InputKey(1, 1),), max_pixels=1, max_frames=1)
    assert to_request(plan, 1)["keys"] == [[1, 1, "stretch", "area"]]
    target = os.memfd_create("t") if hasattr(os, "memfd_create") else os.open(os.devnull, 0)
    try:
        if sys.platform == "linux":
            os.ftruncate(target, 64 * 3)
        with pytest.raises((KeyError, TypeError, ValueError)):
            to_result(reply, plan, target)
    finally:
        os.close(target)


def cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


def zombie(pid: int) -> bool:
    """Dead, and not yet reaped by the process that inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(
    "message",
    [
        LENGTH.pack(1 << 30),
        LENGTH.pack(3) + b"[1]",
        LENGTH.pack(2) + b"no",
        LENGTH.pack(200_000) + b"[" * 200_000,
    ],
)
def test_descriptors_that_come_with_nonsense_are_closed(message: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as file:  # noqa: PTH123
        before = len(os.listdir("/dev/fd"))  # noqa: PTH208
        socket.send_fds(theirs, [message[:4]], [file.fileno(), file.fileno()])
        sender = threading.Thread(target=theirs.sendall, args=(message[4:],))
        sender.start()
        with pytest.raises(ValueError, match=r"\S"):
            receive(ours, time.monotonic() + 10)
        sender.join()
        assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
