"""Derivatives: made of a medium in limited children, stored, announced."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from moderation.blobs import BlobStore
from moderation.decoders import DecoderPool
from moderation.errors import MediaError, NotFoundError, ServiceError
from moderation.film import Film
from moderation.images import DecodePlan
from moderation.settings import Settings
from moderation.stills import MAX_SIDE, Pixels, webp, whole
from moderation.store import derivatives, films
from moderation.store.derivatives import DerivativeRow, Made, Source
from moderation.store.engine import Database
from moderation.types import InputKey
from moderation.video.derive import proxy
from moderation.video.ffmpeg import program
from moderation.video.probe import Probed, ProbeLimits, VideoInfo, probe
from moderation.video.source import ReadOptions
from moderation.video.still import still

log = logging.getLogger(__name__)

PROXY: Final = "proxy.mp4"
PICTURES: Final = ("picture.webp", "picture-blur.webp")
FRAME: Final = re.compile(r"frame-(\d{1,9})(-blur)?\.webp")
SQUARE: Final = InputKey(MAX_SIDE, MAX_SIDE)


class Wake(Protocol):
    def wake(self, job_id: str) -> None: ...


class Files(Protocol):
    """Media as files of this machine; raises NotFoundError, BlobError."""

    def open(self, blob_key: str) -> AbstractContextManager[Path]: ...


@dataclass(frozen=True)
class Deriver:
    """Makes derivatives, several at once; used by many threads. folder: of this process alone,
    for large files on their way."""

    db: Database
    blobs: BlobStore
    files: Files
    waker: Wake
    pool: DecoderPool
    settings: Settings
    folder: Path
    proxies: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))
    """One at a time: a long film would take the turn of every picture."""

    def once(self) -> bool:
        """Make one; False when none waits. Raises ServiceError when the database is away."""
        free = self.proxies.acquire(blocking=False)
        try:
            claimed = derivatives.claim(
                self.db, lease_s=self.settings.lease_seconds, without=None if free else PROXY
            )
            if claimed is None:
                return False
            if free and claimed[0].name != PROXY:
                self.proxies.release()
                free = False
            self._settle(*claimed)
        finally:
            if free:
                self.proxies.release()
        return True

    def _settle(self, row: DerivativeRow, source: Source) -> None:
        """Bring a claimed one to an end, whatever happens."""
        try:
            if row.attempt > self.settings.max_attempts:
                raise MediaError(
                    f"it was tried {row.attempt - 1} times", code=derivatives.EXHAUSTED
                )
            with self._renewing(row):
                self._make(row, source)
        except NotFoundError as error:
            derivatives.fail(self.db, row, f"media_missing: {error.message}")
        except MediaError as error:
            log.info("derivative %s (%s) cannot be made: %s", row.id, row.name, error)
            derivatives.fail(self.db, row, f"{error.code}: {error.message}")
        except ServiceError as error:
            log.warning("derivative %s attempt %d: %s", row.id, row.attempt, error)
            derivatives.release(self.db, row)
            return
        except Exception:
            # A defect of ours: somebody else may try.
            log.exception("derivative %s attempt %d", row.id, row.attempt)
            derivatives.release(self.db, row)
            return
        self.waker.wake(row.id)

    def _make(self, row: DerivativeRow, source: Source) -> None:
        key = f"derived/{row.tenant}/{row.media_id}/{row.name}"
        if row.name in PICTURES:
            made = self._put(key, self._picture(source, covered=row.name == PICTURES[1]))
        else:
            with self.files.open(source.blob_key) as path:
                made = self._of_video(row, path, key)
        if not derivatives.finish(self.db, row, made) and not derivatives.get(self.db, row.id):
            log.info("derivative %s: its item was deleted meanwhile", row.id)
            self.blobs.delete(key)

    def _picture(self, source: Source, *, covered: bool) -> bytes:
        plan = DecodePlan((SQUARE,), self.settings.max_pixels, max_frames=1, max_views=4)
        decoded = self.pool.decode(self.blobs.get(source.blob_key), plan)
        return webp(whole(decoded), covered=covered)

    def _of_video(self, row: DerivativeRow, path: Path, key: str) -> Made:
        info = self._info(row, path)
        reading = ReadOptions(program(self.settings.ffmpeg), max_pixels=self.settings.max_pixels)
        if row.name == PROXY:
            with proxy(path, info, reading, self.folder) as file:
                self.blobs.put_file(key, file)
                return Made(key, "video/mp4", file.stat().st_size)
        wanted = FRAME.fullmatch(row.name)
        if wanted is None:
            raise MediaError(f"a video has nothing called {row.name}", code="not_found")
        frame = self._frame(path, int(wanted[1]) / 1000, info, reading)
        return self._put(key, webp(frame, covered=wanted[2] is not None))

    def _frame(self, path: Path, time_s: float, info: VideoInfo, reading: ReadOptions) -> Pixels:
        """The frame that begins at a time, or the next one; the last where no other comes."""
        try:
            return still(path, time_s, info, reading, max_side=MAX_SIDE)
        except MediaError:
            if time_s > info.held_s:
                raise
        index = self._probed(path).index
        return still(path, index.shown_at(time_s), info, reading, max_side=MAX_SIDE, index=index)

    def _put(self, key: str, data: bytes) -> Made:
        self.blobs.put(key, data)
        return Made(key, "image/webp", len(data))

    def _info(self, row: DerivativeRow, path: Path) -> VideoInfo:
        """What a job has found of the film; looked at anew where none has yet."""
        told = films.film_of_media(self.db, row.media_id)
        return self._probed(path).info if told is None else Film.from_json(told).info

    def _probed(self, path: Path) -> Probed:
        limits = ProbeLimits(
            max_duration_s=self.settings.max_video_seconds, max_pixels=self.settings.max_pixels
        )
        return probe(path, limits)

    @contextmanager
    def _renewing(self, row: DerivativeRow) -> Iterator[None]:
        """Say now and then that it is still being made."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self.settings.lease_seconds / 3):
                try:
                    derivatives.renew(self.db, row)
                except ServiceError as error:
                    log.warning("derivative %s not renewed: %s", row.id, error)

        thread = threading.Thread(target=renew, name=f"renew-{row.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
