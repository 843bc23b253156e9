"""Sources, reading, order and the state file of a scan; no models, no decoders."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import ConfigError, MediaError
from moderation.scan import Source, State, expand, leave_out, read, scan
from moderation.settings import Settings
from moderation.types import Coverage, Decision, Status, Verdict


def verdict(source: Source, status: Status = Status.DONE) -> Verdict:
    return Verdict(
        id="item_0",
        source=source.name,
        status=status,
        decision=Decision.PASS if status is Status.DONE else Decision.REVIEW,
        coverage=Coverage(frames_total=1, frames_scored=1, complete=True),
        policy="default@1",
    )


def names(*given: str) -> list[str]:
    return [source.name for source in expand(given)]


def make(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"x")


class TestExpand:
    def test_every_file_of_a_folder_in_order_named_as_given(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(tmp_path, "in/b.txt", "in/a/z.png", "in/.hidden", "in/c", "in/a/deep/x.jpg")
        monkeypatch.chdir(tmp_path)
        expected = ["in/.hidden", "in/a/deep/x.jpg", "in/a/z.png", "in/b.txt", "in/c"]
        assert names("in") == expected
        assert names("in/") == expected
        assert names("./in") == [f"./{name}" for name in expected]
        assert names(str(tmp_path / "in")) == [str(tmp_path / name) for name in expected]

    def test_links_to_folders_are_not_followed_and_broken_links_have_a_line(
        self, tmp_path: Path
    ) -> None:
        make(tmp_path, "real/a.jpg", "in/b.jpg")
        (tmp_path / "in/to-folder").symlink_to(tmp_path / "real")
        (tmp_path / "in/to-self").symlink_to(tmp_path / "in")
        (tmp_path / "in/to-file").symlink_to(tmp_path / "real/a.jpg")
        (tmp_path / "in/broken").symlink_to(tmp_path / "nowhere")
        folder = tmp_path / "in"
        assert names(str(folder)) == [f"{folder}/{n}" for n in ("b.jpg", "broken", "to-file")]

    def test_globs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make(tmp_path, "a1.jpg", "a2.jpg", "b.png", "sub/a3.jpg", "sub/.a4.jpg")
        monkeypatch.chdir(tmp_path)
        assert names("a*.jpg") == ["a1.jpg", "a2.jpg"]
        assert names("s*") == ["sub/.a4.jpg", "sub/a3.jpg"]
        assert names("**/*.jpg") == ["a1.jpg", "a2.jpg", "sub/.a4.jpg", "sub/a3.jpg"]
        assert names("**") == ["a1.jpg", "a2.jpg", "b.png", "sub/.a4.jpg", "sub/a3.jpg"]

    def test_a_file_whose_name_is_a_pattern_is_that_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(tmp_path, "photo[1].jpg", "photo1.jpg")
        monkeypatch.chdir(tmp_path)
        assert names("photo[1].jpg") == ["photo[1].jpg"]

    @pytest.mark.parametrize("argument", ["missing.jpg", "missing*.jpg"])
    def test_what_is_not_there_has_a_line_with_its_fault(
        self, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (source,) = expand([argument])
        assert source.name == argument
        assert source.fault is not None
        assert source.fault.code == "not_found"

    def test_a_url_is_its_own_name(self) -> None:
        assert list(expand(["https://example.org/a?b=*"])) == [
            Source("https://example.org/a?b=*", None)
        ]

    def test_names_that_are_not_utf8_are_spelled_out(self, tmp_path: Path) -> None:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
        (source,) = expand([str(tmp_path)])
        assert source.name == f"{tmp_path}/caf\\xe9.jpg"
        assert read(source, Settings()) == b"x"

    def test_folders_nested_deeper_than_calls_may_be(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        depth = sys.getrecursionlimit() + 200
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        Path("x").write_bytes(b"x")
        try:
            assert len(names(str(tmp_path))) == 1
        finally:  # level by level: pytest's own removal calls itself for each
            Path("x").unlink()
            for _ in range(depth):
                os.chdir("..")
                Path("d").rmdir()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
    def test_a_folder_that_cannot_be_listed_has_a_line(self, tmp_path: Path) -> None:
        make(tmp_path, "in/closed/a.jpg")
        (tmp_path / "in/closed").chmod(0)
        (source,) = expand([str(tmp_path)])
        assert source.fault is not None
        assert source.fault.code == "unreadable"


class TestRead:
    def test_a_pipe_and_a_socket_are_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "socket"))
            sources = list(expand([str(tmp_path)]))
            assert [s.name for s in sources] == [f"{tmp_path}/pipe", f"{tmp_path}/socket"]
            for source, kind in zip(sources, ("a pipe", "a socket"), strict=True):
                with pytest.raises(MediaError, match=kind) as caught:
                    read(source, Settings())
                assert caught.value.code == "unreadable"

    def test_a_file_above_the_limit_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "big"
        path.write_bytes(b"x" * 11)
        with pytest.raises(MediaError) as caught:
            read(Source("big", path), Settings(max_image_bytes=10))
        assert caught.value.code == "too_large"
        path.write_bytes(b"x" * 10)
        assert read(Source("big", path), Settings(max_image_bytes=10)) == b"x" * 10

    def test_a_file_that_went_away(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match="No such file") as caught:
            read(Source("gone", tmp_path / "gone"), Settings())
        assert caught.value.code == "unreadable"


class TestScan:
    @given(st.integers(0, 30), st.integers(1, 4))
    def test_one_verdict_a_source_in_order(self, count: int, threads: int) -> None:
        sources = [Source(str(number), None) for number in range(count)]
        found = [v.source for _, v in scan(sources, verdict, threads=threads)]
        assert found == [source.name for source in sources]

    def test_only_a_window_of_sources_is_taken_ahead(self) -> None:
        taken = 0

        def endless() -> Iterator[Source]:
            nonlocal taken
            while True:
                taken += 1
                yield Source(str(taken), None)

        running = scan(endless(), verdict, threads=3)
        for _ in range(10):
            next(running)
        assert taken <= 10 + 2 * 3
        running.close()

    def test_sources_are_examined_at_the_same_time(self) -> None:
        both = threading.Barrier(2, timeout=10)

        def examine(source: Source) -> Verdict:
            both.wait()
            return verdict(source)

        sources = [Source("a", None), Source("b", None)]
        assert len(list(scan(sources, examine, threads=2))) == 2

    def test_closing_drops_what_has_not_begun(self) -> None:
        release, begun = threading.Event(), []

        def examine(source: Source) -> Verdict:
            begun.append(source.name)
            if source.name != "0":
                release.wait(10)
            return verdict(source)

        running = scan([Source(str(n), None) for n in range(6)], examine, threads=1)
        next(running)
        running.close()
        release.set()
        assert len(begun) <= 2


class TestState:
    def state(self, path: Path, policy: str = "default@1", model: str = "m@1") -> State:
        return State(path, policy, [model])

    def run(self, state: State, folder: Path) -> tuple[list[str], list[Decision]]:
        """Names that are looked at, and the decisions of those that are left out."""
        earlier: list[Decision] = []
        with state:
            looked = []
            for source in leave_out(expand([str(folder)]), state, earlier.append):
                looked.append(Path(source.name).name)
                state.add(source, verdict(source))
        return looked, earlier

    def test_a_second_run_looks_at_new_and_changed_files_alone(self, tmp_path: Path) -> None:
        folder, path = tmp_path / "in", tmp_path / "state"
        make(folder, "a", "b", "c")
        assert self.run(self.state(path), folder) == (["a", "b", "c"], [])
        assert self.run(self.state(path), folder) == ([], [Decision.PASS] * 3)
        (folder / "b").write_bytes(b"longer")
        os.utime(folder / "c", ns=(1, 1))
        make(folder, "d")
        assert self.run(self.state(path), folder) == (["b", "c", "d"], [Decision.PASS])
        assert self.run(self.state(path), folder)[0] == []

    @pytest.mark.parametrize("change", [{"policy": "strict@1"}, {"model": "m@2"}])
    def test_another_policy_or_model_looks_again(
        self, change: dict[str, str], tmp_path: Path
    ) -> None:
        folder, path = tmp_path / "in", tmp_path / "state"
        make(folder, "a")
        self.run(self.state(path), folder)
        assert self.run(self.state(path, **change), folder)[0] == ["a"]

    def test_failed_files_are_tried_again(self, tmp_path: Path) -> None:
        source = Source("a", tmp_path / "a")
        path = tmp_path / "state"
        with self.state(path) as state:
            state.add(source, verdict(source, Status.FAILED))
        with self.state(path) as state:
            assert state.decided(source) is None

    @pytest.mark.parametrize("cut", [1, 5, 40])
    def test_a_torn_last_line_costs_that_file_alone(self, cut: int, tmp_path: Path) -> None:
        folder, path = tmp_path / "in", tmp_path / "state"
        make(folder, "a", "b", "c")
        self.run(self.state(path), folder)
        whole = path.read_bytes()
        path.write_bytes(whole[:-cut])
        # Without its line's end alone, the last file is still known.
        assert self.run(self.state(path), folder)[0] == ([] if cut == 1 else ["c"])
        assert self.run(self.state(path), folder)[0] == []

    def test_a_file_that_is_no_state_is_not_written_to(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("Dear all,\nthis is no state.\n")
        with pytest.raises(ConfigError, match="no state file"):
            self.state(path)
        assert path.read_text() == "Dear all,\nthis is no state.\n"

    def test_a_state_that_cannot_be_written_is_told_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot use the state file"):
            self.state(tmp_path / "no" / "such" / "folder")
