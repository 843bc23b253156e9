"""Media programs: limited, drained, killed, reaped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moderation.errors import ConfigError, MediaError
from moderation.video.ffmpeg import MIB, TAIL_BYTES, MediaProcess, program


def python(code: str, *, timeout_s: float = 20.0, memory_mib: int = 1024) -> MediaProcess:
    argv = [sys.executable, "-S", "-c", code]
    return MediaProcess(argv, timeout_s=timeout_s, memory_mib=memory_mib)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_flood_of_errors_neither_stops_it_nor_fills_memory() -> None:
    flood = (
        f"import sys; sys.stderr.write('e' * {256 * 1024}); print('done'); sys.stderr.write('!')"
    )
    with python(flood) as child:
        assert child.read_all(100) == b"done\n"
        assert child.finish() == 0
        assert len(child.tail) <= TAIL_BYTES
        assert child.tail.endswith("e!")


def test_its_standard_input_is_closed() -> None:
    with python("import sys; print(repr(sys.stdin.read()))") as child:
        assert child.read_all(100) == b"''\n"


def test_it_is_killed_at_its_time_and_says_so() -> None:
    started = time.monotonic()
    with python("import threading; threading.Event().wait()", timeout_s=0.5) as child:
        with pytest.raises(MediaError) as caught:
            child.read(1)
        assert caught.value.code == "decode_timeout"
        with pytest.raises(MediaError):
            child.finish()
        pid = child.pid
    assert time.monotonic() - started < 10
    assert not is_running(pid)


def test_leaving_it_early_kills_and_reaps_it_and_its_children() -> None:
    forever = "import threading; threading.Event().wait()"
    code = (
        "import subprocess, sys; "
        f"p = subprocess.Popen([sys.executable, '-c', {forever!r}]); "
        "print(f'{p.pid:8}', flush=True); p.wait()"
    )
    with python(code) as child:
        grandchild = int(child.read(8))
        pid = child.pid
    assert not is_running(pid)
    deadline = time.monotonic() + 10
    while is_running(grandchild):  # its new parent reaps it when it gets round to it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.close()  # a second time does nothing


def test_its_memory_is_limited() -> None:
    with python(f"print(len(bytearray({600 * MIB})))", memory_mib=300) as child:
        assert child.read_all(100) == b""
        assert child.finish() != 0
        assert "MemoryError" in child.tail


def test_it_writes_no_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with python(f"f = open({str(file)!r}, 'w'); f.write('much'); f.close()") as child:
        assert child.finish() != 0
        assert "File too large" in child.tail
    assert file.stat().st_size == 0


def test_more_output_than_allowed_is_refused() -> None:
    with python("print('x' * 1000)") as child, pytest.raises(MediaError, match="more than it may"):
        child.read_all(100)


def test_it_dies_with_the_process_that_started_it() -> None:
    code = (
        "import sys; from moderation.video.ffmpeg import MediaProcess; "
        "c = MediaProcess([sys.executable, '-c', 'import threading; threading.Event().wait()'], "
        "timeout_s=60, memory_mib=1024); print(c.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_our_secrets_are_not_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATION_BOOTSTRAP_KEY", "secret")
    with python("import os; print('MODERATION_BOOTSTRAP_KEY' in os.environ)") as child:
        assert child.read_all(100) == b"False\n"


def test_a_program_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with MediaProcess([str(tmp_path / "none")], timeout_s=20, memory_mib=100) as child:
        assert child.finish() == 127
        assert child.tail.endswith("none: No such file or directory")
    with pytest.raises(ConfigError, match="there is no ffmpeg at"):
        program(str(tmp_path / "none"))
    assert program(sys.executable) == sys.executable
