"""A stream is followed through what goes wrong: the right state each time, back when it can be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from moderation.errors import FetchError
from moderation.live.clock import steady_utc
from moderation.live.ends import EndReason
from moderation.live.follow import Follower, Opening, Source, Told
from moderation.live.opened import UrlSource
from moderation.live.picture import Meaningless
from moderation.live.proxy_thread import ProxyThread
from moderation.live.reader import LiveFrame, ReaderOptions
from moderation.live.watchdog import Changed, Limits
from moderation.settings import load_settings
from moderation.types import InputKey
from moderation.types import StreamState as S
from moderation.video.ffmpeg import program
from tests.fakes.web import web
from tests.integration.live_source import X264, Served, until
from tests.integration.media import write
from tests.live_servers import LiveServer, publishing

SETTINGS = load_settings(fetch_allow="127.0.0.1")
QUICK = Limits(
    connect_s=6.0,
    silent_s=2.0,
    patience_s=1.0,
    picture_s=2.0,
    picture_patience_s=1.0,
    first_delay_s=0.2,
    longest_delay_s=1.0,
)
# For what is not about frames that stay away: a busy machine holds them up as well.
PATIENT = replace(QUICK, connect_s=20.0, silent_s=20.0, patience_s=20.0)


class Direct:
    """A source without the proxy."""

    def __init__(self, *words: str) -> None:
        self._words = words

    @contextmanager
    def open(self, attempt: int) -> Iterator[Opening]:
        del attempt
        yield Opening(("-analyzeduration", "500000", *self._words), lambda end: Told(end.reason))


class Refusing:
    @contextmanager
    def open(self, attempt: int) -> Iterator[Opening]:
        raise FetchError(f"attempt {attempt} may not", code="fetch_forbidden")
        yield  # a context manager has one


class Failing:
    """No file is left for its pipes, say: once, and then it is read."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @contextmanager
    def open(self, attempt: int) -> Iterator[Opening]:
        if attempt == 1:
            raise OSError(24, "Too many open files")
        with self._source.open(attempt) as opening:
            yield opening


class Followed:
    """A follower whose ticks, frames and changes are noted."""

    def __init__(self, source: Source, folder: Path, limits: Limits) -> None:
        self.frames: list[tuple[LiveFrame, Meaningless | None]] = []
        self.changes: list[Changed] = []
        self.follower = Follower(
            source,
            (InputKey(64, 64),),
            ReaderOptions(program(), interval_s=0.5),
            lambda frame, bad: self.frames.append((frame, bad)),
            now=steady_utc(),
            chance=lambda: 0.5,
            limits=limits,
            folder=folder,
        )

    @property
    def states(self) -> list[S]:
        return [change.state for change in self.changes]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def ticked() -> bool:
            self.changes += self.follower.tick()
            return condition()

        try:
            until(ticked, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; {[(c.state, c.why) for c in self.changes]}") from None

    def reaches(self, *states: S) -> None:
        """Wait until these are the last ones."""
        self.until(lambda: tuple(self.states[-len(states) :]) == states, str(states))


@contextmanager
def following(source: Source, folder: Path, limits: Limits = QUICK) -> Iterator[Followed]:
    """Everything of it is gone at the end."""
    before = pipes()
    followed = Followed(source, folder, limits)
    try:
        yield followed
    finally:
        followed.changes += followed.follower.close()
    assert followed.follower.close() == ()
    assert programs(folder) == []
    assert list(folder.iterdir()) == []
    assert pipes() <= before
    assert not [one for one in threading.enumerate() if one.name == "stream-reader"]


def pipes() -> set[str]:
    """The pipes that this process has open."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(path.readlink()))
        except FileNotFoundError:
            continue  # that of the listing itself
    return {name for name in found if name.startswith("pipe:")}


def programs(folder: Path) -> list[str]:
    """Ids of the programs that were told of a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told = str(folder).encode() in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if told:
            found.append(path.parent.name)
    return found


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write(path, "-f", "lavfi", "-i", "testsrc=size=320x180:rate=10:duration=20", *X264)


@pytest.fixture(scope="module")
def proxy() -> Iterator[ProxyThread]:
    with ProxyThread(SETTINGS.fetch_allow) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "streams"
    path.mkdir()
    return path


def test_a_server_is_killed_and_comes_back(
    live_server: LiveServer, film: Path, folder: Path, proxy: ProxyThread
) -> None:
    url = live_server.rtmp("back")
    with following(UrlSource(url, SETTINGS, proxy), folder, PATIENT) as one:
        with publishing(film, url):
            one.reaches(S.CONNECTING, S.LIVE)
            one.until(lambda: len(one.frames) >= 4, "frames")
            assert len(programs(folder)) == 1
            live_server.stop()
            one.reaches(S.LIVE, S.RETRYING)
            one.reaches(S.RETRYING, S.CONNECTING, S.RETRYING)  # nobody is there
        live_server.start()
        with publishing(film, url):
            one.reaches(S.CONNECTING, S.LIVE)
    assert one.states[-1] is S.ENDED  # told to stop
    assert one.follower.watch.reconnects >= 2
    times = [frame.captured_s for frame, _ in one.frames]
    assert times == sorted(set(times))
    for before, after in zip(one.changes, one.changes[1:], strict=False):
        assert after.before is before.state


def test_a_publisher_leaves_and_comes_back(
    live_server: LiveServer, film: Path, folder: Path, proxy: ProxyThread
) -> None:
    url = live_server.rtmp("leaves")
    with following(UrlSource(url, SETTINGS, proxy), folder) as one:
        with publishing(film, url):
            one.reaches(S.CONNECTING, S.LIVE)
        one.reaches(S.LIVE, S.STALLED, S.RETRYING, S.CONNECTING)
        with publishing(film, url):
            one.reaches(S.CONNECTING, S.LIVE)


def test_a_source_that_keeps_the_connection_and_sends_nothing(
    film: Path, folder: Path, tmp_path: Path
) -> None:
    stream = write(tmp_path / "some.ts", "-i", str(film), "-c", "copy", "-t", "4").read_bytes()
    with Served(stream, len(stream) / 3) as served:
        url = f"http://127.0.0.1:{served.port}/live.ts"
        with following(Direct("-f", "mpegts", "-i", url), folder, PATIENT) as one:
            one.reaches(S.CONNECTING, S.LIVE)
            one.until(served.silent.is_set, "all is sent")
            one.follower._limits = QUICK
            one.reaches(S.CONNECTING, S.LIVE, S.STALLED, S.RETRYING)


def test_wrong_credentials(folder: Path, proxy: ProxyThread) -> None:
    once = Limits(auth_tries=1)
    with web() as server:
        server.pages["/live.ts"] = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
        url = f"http://me:hunter2@127.0.0.1:{server.port}/live.ts"
        with following(UrlSource(url, SETTINGS, proxy), folder, once) as one:
            one.reaches(S.CONNECTING, S.AUTH_FAILED)
    assert "hunter2" not in repr(one.changes)
    assert one.changes[-1].why == EndReason.AUTH.sentence
    assert one.frames == []


def test_a_playlist_that_is_finished_ends_the_stream(
    film: Path, folder: Path, tmp_path: Path, proxy: ProxyThread
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    hls = ("-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod")
    write(site / "a.m3u8", "-i", str(film), "-c", "copy", "-t", "4", *hls)
    with web() as server:
        server.pages |= {f"/{path.name}": path.read_bytes() for path in site.iterdir()}
        with following(UrlSource(f"{server.url}/a.m3u8", SETTINGS, proxy), folder) as one:
            one.reaches(S.CONNECTING, S.LIVE, S.ENDED)
    assert one.changes[-1].why == EndReason.FINISHED.sentence


def test_an_address_that_may_not_be_read(folder: Path) -> None:
    with following(Refusing(), folder) as one:
        one.reaches(S.CONNECTING, S.FAILED)
    assert one.follower.watch.attempt == 1
    assert one.changes[-1].why == "attempt 1 may not"


def test_a_fault_of_our_own_says_nothing_of_the_source(folder: Path, film: Path) -> None:
    source = Failing(Direct("-re", "-i", str(film)))
    with following(source, folder) as one:
        one.reaches(S.CONNECTING, S.RETRYING, S.CONNECTING, S.LIVE)
    assert one.changes[1].why == EndReason.BROKEN.sentence


def test_nobody_is_there(folder: Path) -> None:
    url = "http://127.0.0.1:9/live.ts"
    limits = Limits(first_delay_s=0.1, max_tries=2)
    with following(Direct("-f", "mpegts", "-i", url), folder, limits) as one:
        one.reaches(S.CONNECTING, S.RETRYING, S.CONNECTING, S.FAILED)
    assert one.changes[-1].why == f"{EndReason.UNREACHABLE.sentence}; 2 attempts failed"


def test_a_black_picture_is_told(
    live_server: LiveServer, folder: Path, tmp_path: Path, proxy: ProxyThread
) -> None:
    source = "color=black:size=320x180:rate=10:duration=4,format=yuv420p"
    black = write(tmp_path / "black.mp4", "-f", "lavfi", "-i", source, *X264)
    url = live_server.rtmp("black")
    watched = UrlSource(url, SETTINGS, proxy)
    with following(watched, folder, PATIENT) as one, publishing(black, url):
        one.reaches(S.LIVE, S.STALLED)
        assert one.changes[-1].why == "the picture is black"
        assert one.frames[-1][1] is Meaningless.BLACK
        one.reaches(S.STALLED, S.RETRYING, S.CONNECTING, S.STALLED)


def test_it_is_closed_in_the_middle_of_anything(
    live_server: LiveServer, film: Path, folder: Path, proxy: ProxyThread
) -> None:
    url = live_server.rtmp("closed")
    with publishing(film, url):
        for ticks in range(6):
            with following(UrlSource(url, SETTINGS, proxy), folder) as one:
                for _ in range(ticks):
                    one.changes += one.follower.tick()
                    threading.Event().wait(0.05 * ticks)
            assert one.states[-1] is S.ENDED


def test_credentials_are_not_shown() -> None:
    opening = Opening(("-i", "rtsp://me:hunter2@127.0.0.1/"), lambda end: Told(end.reason))
    assert "hunter2" not in repr(opening)
