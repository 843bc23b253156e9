"""Moderation without server or database: sources -> verdicts, in order, in flat memory.

A source is a file, every regular or irregular file of a folder, what a glob matches, or a
URL. Each gets exactly one verdict; one that cannot be read, or is no picture, gets a failed
one, decided by the policy's `on_failure`. Links to folders are not followed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from types import TracebackType
from typing import Protocol, Self

from moderation.analyse import Analyser, Analysis, failure, to_verdict
from moderation.analyse_video import VideoAnalyser, VideoAnalysis
from moderation.errors import ConfigError, MediaError, ModerationError, OverloadedError
from moderation.fetch import fetch
from moderation.film import film_verdict
from moderation.ids import new_id
from moderation.policy import Policy, problem_of
from moderation.settings import Settings
from moderation.sniff import HEAD_BYTES, is_video
from moderation.types import Decision, Status, Verdict

RAW_JPEG = (".mjpeg", ".mjpg")
KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to moderate. `name` is what the verdict calls it. `path` is None for a URL;
    `fault` says why there is nothing to read. `size` in bytes and `changed` in nanoseconds
    since 1970 are set where `--resume` has to compare them."""

    name: str
    path: Path | None
    fault: ModerationError | None = None
    size: int | None = None
    changed: int | None = None


# --- what there is to scan ---------------------------------------------------------------


def expand(given: Iterable[str]) -> Iterator[Source]:
    """Every source of the arguments, lazily, in a stable order: folders depth first by name.

    A name in a folder is the folder as given joined with the relative path.
    """
    for argument in given:
        if argument.startswith(("http://", "https://")):
            yield Source(argument, None)
        elif os.path.lexists(argument):
            yield from _expand_path(argument)
        elif glob.has_magic(argument):
            yield from _expand_glob(argument)
        else:
            yield _unreadable(argument, "there is no such file", code="not_found")


def _expand_glob(pattern: str) -> Iterator[Source]:
    # Not Path.glob: it would spell `./a*` and `a*` alike, and the verdict's source must not.
    every = glob.glob(pattern, recursive=True, include_hidden="**" in pattern)  # noqa: PTH207
    matches = sorted(every)
    if not matches:
        yield _unreadable(pattern, "nothing matches", code="not_found")
    for match in matches:
        # `**` names the files inside a folder as well as the folder.
        if not ("**" in pattern and os.path.isdir(match)):  # noqa: PTH112
            yield from _expand_path(match)


def _expand_path(path: str) -> Iterator[Source]:
    if os.path.isdir(path):  # noqa: PTH112 - follows the link that the user named
        yield from _walk(path)
    else:
        yield Source(name_of(path), Path(path))


def _walk(folder: str) -> Iterator[Source]:
    # A stack of its own: folders may be nested deeper than Python's calls.
    levels = [_listing(folder)]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
        elif isinstance(entry, Source):
            yield entry
        else:
            levels.append(_listing(entry))


def _listing(folder: str) -> Iterator[Source | str]:
    """One folder by name: sources, and its folders as paths. No line for a link to a folder."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield _unreadable(folder, error.strerror or "cannot be listed")
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield entry.path
        elif not os.path.isdir(entry.path):  # noqa: PTH112
            yield Source(name_of(entry.path), Path(entry.path))


def _unreadable(name: str, words: str, *, code: str = "unreadable") -> Source:
    fault = MediaError(f"{name_of(name)}: {words}", code=code)
    return Source(name_of(name), Path(name), fault)


def name_of(path: str) -> str:
    """A path as text: bytes that are not UTF-8 are spelled out, for JSON has no place for them."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# --- reading -----------------------------------------------------------------------------


def read(source: Source, settings: Settings) -> bytes:
    """The bytes of a source. Raises MediaError (unreadable, too_large) or FetchError.

    Never blocks on a pipe, and never reads more than `max_image_bytes`.
    """
    if source.fault is not None:
        raise source.fault
    limit = settings.max_image_bytes
    if source.path is None:
        # The person at the command line asks for this URL: `fetch_enabled` guards the gateway.
        return fetch(
            source.name,
            allow=settings.fetch_allow,
            timeout_s=settings.fetch_timeout,
            max_bytes=limit,
        ).data
    try:
        _check_regular(source.path.stat().st_mode)
        # Between the look and the open it may have become a pipe: do not wait for a writer.
        descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            opened = os.fstat(descriptor)
            _check_regular(opened.st_mode)
            if opened.st_size > limit:
                raise _too_large(limit)
            data = stream.read(limit + 1)
    except OSError as error:
        raise MediaError(error.strerror or str(error), code="unreadable") from error
    if len(data) > limit:
        raise _too_large(limit)
    return data


def _head(path: Path) -> bytes:
    """The first bytes of a file, as many as `is_video` looks at; none where `read` will say
    what is wrong with it."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""


def _shows_moving(path: Path) -> bool:
    """Whether a file is looked at as a video. A raw Motion JPEG stream begins as any JPEG file
    does: its name alone says how it will be played."""
    head = _head(path)
    return is_video(head) or (head[:2] == b"\xff\xd8" and path.suffix.lower() in RAW_JPEG)


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in KINDS if test(mode)), "no regular file")
        raise MediaError(f"{kind}, not a file", code="unreadable")


def _too_large(limit: int) -> MediaError:
    return MediaError(f"larger than max_image_bytes ({limit} bytes)", code="too_large")


# --- scanning ----------------------------------------------------------------------------


class Watcher(Protocol):
    """Hears of sources while, and after, they are looked at, in the thread that does it."""

    def on_progress(self, source: Source, done: int, wanted: int, film_s: float) -> None:
        """Of a video: see `analyse_video.Progress`."""

    def on_video(self, source: Source, analysis: VideoAnalysis) -> None: ...

    def on_picture(self, source: Source, data: bytes, analysis: Analysis) -> None: ...


class Examiner(Protocol):
    """Gives the verdict of one source; called from several threads at once."""

    def __call__(self, source: Source) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Moderator:
    """An `Examiner` that reads, decodes and scores. Raises nothing for a bad source, nor for
    a failure on our side: the verdict says so and the next source has its turn."""

    analyser: Analyser
    videos: Callable[[str], VideoAnalyser]
    """Makes the analyser of one video, from a seed."""
    turns: BoundedSemaphore
    """How many videos are read at a time: each has readers of its own."""
    policy: Policy
    settings: Settings
    models: tuple[str, ...]
    device: str
    patience: int
    """Times a picture may wait in vain for a decoder that slow ones before it keep busy."""
    watcher: Watcher | None = None

    def __call__(self, source: Source) -> Verdict:
        try:
            if source.path is not None and source.fault is None and _shows_moving(source.path):
                return self._video(source, source.path)
            data = read(source, self.settings)
            analysis = self._analyse(data)
            if self.watcher is not None:
                self.watcher.on_picture(source, data, analysis)
        except ModerationError as error:
            analysis = failure(self.policy, problem_of(error))
        return to_verdict(
            analysis,
            id=new_id("item"),
            source=source.name,
            policy=self.policy,
            models=self.models,
            device=self.device,
        )

    def _video(self, source: Source, path: Path) -> Verdict:
        watcher = self.watcher
        with self.turns:
            # Which moments are looked at follows from the file: a second run asks for the same.
            try:
                with path.open("rb") as stream:
                    seed = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise MediaError(error.strerror or str(error), code="unreadable") from error
            progress = partial(watcher.on_progress, source) if watcher is not None else None
            analysis = self.videos(seed).analyse(path, self.policy, progress=progress)
        if watcher is not None:
            watcher.on_video(source, analysis)
        return film_verdict(
            analysis.timeline,
            analysis.film,
            id=new_id("item"),
            source=source.name,
            policy=self.policy,
            models=self.models,
            device=self.device,
            timings_ms=analysis.timings_ms,
        )

    def _analyse(self, data: bytes) -> Analysis:
        for _ in range(self.patience):
            try:
                return self.analyser.analyse(data, self.policy)
            except OverloadedError:
                continue  # raised after a wait of decode_timeout, by our own other threads
        return self.analyser.analyse(data, self.policy)


def scan(
    sources: Iterable[Source], examine: Examiner, *, threads: int
) -> Generator[tuple[Source, Verdict], None, None]:
    """Verdicts in the order of the sources, while `threads` of them are being worked on.

    At most twice as many are held at any time, however many sources there are. Closing the
    iterator drops what has not begun.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="scan")
    ahead: deque[tuple[Source, Future[Verdict]]] = deque()
    try:
        for source in sources:
            ahead.append((source, pool.submit(examine, source)))
            if len(ahead) >= 2 * threads:
                first, verdict = ahead.popleft()
                yield first, verdict.result()
        while ahead:
            first, verdict = ahead.popleft()
            yield first, verdict.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# --- continuing a big run ----------------------------------------------------------------


class State:
    """The state file of `--resume`: one JSON line for every source that was analysed.

    A source is left out when it has the same size and time of change, and the same policy
    and models would look at it. Failed ones are tried again. A line is written as soon as
    its verdict was handed on; a last line torn by a kill is ignored.
    """

    def __init__(self, path: Path, policy: str, models: Sequence[str]) -> None:
        """Raises ConfigError when the file is no state file or cannot be written."""
        self._basis = {"policy": policy, "models": sorted(models)}
        self._seen: dict[bytes, Decision] = {}
        try:
            torn = path.exists() and self._read(path)
            self._stream = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot use the state file {path}: {error.strerror}") from error
        if torn:
            self._stream.write("\n")

    def _read(self, path: Path) -> bool:
        """Fill what was seen; whether the last line is torn."""
        line = "\n"
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                    decision = Decision(row.pop("decision"))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    if number == 1 and line.endswith("\n"):
                        raise ConfigError(f"{path} is no state file of `scan`") from error
                else:
                    self._seen[_digest(row)] = decision
        return not line.endswith("\n")

    def decided(self, source: Source) -> Decision | None:
        """The earlier decision on a source that need not be looked at again."""
        return self._seen.get(_digest(self._row(source)))

    def add(self, source: Source, verdict: Verdict) -> None:
        """Note a verdict that was handed on. Failed ones are not noted."""
        if verdict.status is Status.DONE:
            row = self._row(source) | {"decision": verdict.decision.value}
            self._stream.write(json.dumps(row) + "\n")
            self._stream.flush()

    def _row(self, source: Source) -> dict[str, object]:
        return {
            "source": source.name,
            "size": source.size,
            "changed": source.changed,
            **self._basis,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()


def _digest(row: dict[str, object]) -> bytes:
    """16 bytes for a line: a state file of a million lines must fit into memory."""
    return hashlib.blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=16).digest()


def leave_out(
    sources: Iterable[Source], state: State, tell: Callable[[Decision], None]
) -> Iterator[Source]:
    """The sources that the state does not know; `tell` hears the earlier decision of others."""
    for source in map(_stamped, sources):
        decision = state.decided(source)
        if decision is None:
            yield source
        else:
            tell(decision)


def _stamped(source: Source) -> Source:
    """The source with its size and time of change, as they are before it is read."""
    if source.path is None or source.fault is not None:
        return source
    try:
        found = source.path.stat()
    except OSError:
        return source  # reading it says why, and a failed verdict is never left out
    return replace(source, size=found.st_size, changed=found.st_mtime_ns)
