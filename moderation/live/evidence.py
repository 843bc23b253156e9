"""The evidence of alerts: kept in the media store, and made an item for people to decide."""

from __future__ import annotations

import heapq
import itertools
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from moderation.blobs import BlobStore
from moderation.errors import ModerationError, ServiceError
from moderation.live.follow import Follower
from moderation.live.kept import Kept, Moments, kept_clip, kept_picture
from moderation.live.reader import LiveFrame
from moderation.live.ring import Clip
from moderation.store import alert_items
from moderation.store.deletion import BytesRemovedError
from moderation.store.engine import Database
from moderation.store.live_records import AlertRow
from moderation.store.opening import discard
from moderation.video.probe import ProbeLimits

log = logging.getLogger(__name__)

TAIL_S: Final = 2.0
"""How long after its opening frame was captured an alert's clip goes on, at least where the stream
does."""
RETRY_S: Final = 5.0
TRIES: Final = 60
"""A database or a media store that is away is waited for: five minutes, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """The evidence of an alert of a stream that is in hand. moments: what was seen of it lately.
    frame: the one that opened the alert; None: that is not known any more."""

    alert: AlertRow
    follower: Follower
    moments: Callable[[], Moments]
    frame: LiveFrame | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Frozen:
    """What was taken of the stream, in a folder of its own. clip: None: nothing could be."""

    folder: Path
    clip: Clip | None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """frozen: its reader is not needed any more. kept: it is made, and waits to be stored."""

    wanted: Wanted
    frozen: _Frozen | None = None
    kept: Kept | None = None
    tries: int = 0

    @property
    def stream_id(self) -> str:
        return self.wanted.alert.stream_id


class EvidenceKeeper:
    """Makes it in a thread of its own (`run`): an alert does not wait for it.

    folder: for what is in the making; who made it deletes it. program: ffmpeg. now: seconds UTC, of
    the capture times. on_kept: called with the stream's id.
    """

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        folder: Path,
        program: str,
        *,
        now: Callable[[], float],
        limits: ProbeLimits,
        on_kept: Callable[[str], None] = lambda stream_id: None,
    ) -> None:
        self._db, self._blobs, self._folder, self._program = db, blobs, folder, program
        self._now, self._limits, self._on_kept = now, limits, on_kept
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, _Task]] = []
        self._turns = itertools.count()
        self._freezing: str | None = None
        self._stopped = False

    def want(self, wanted: Wanted) -> None:
        """Make it once the tail has come."""
        self._put(wanted.alert.captured.timestamp() + TAIL_S, _Task(wanted))

    def finish(self, stream_id: str) -> None:
        """Before the stream's reader is closed: take what is still wanted of it now. The rest is
        done by `run`, so that whoever renews leases does not wait for it."""
        with self._changed:
            mine = [task for _, _, task in self._due if task.stream_id == stream_id]
            self._due = [one for one in self._due if one[2].stream_id != stream_id]
            heapq.heapify(self._due)
            self._changed.wait_for(lambda: self._freezing != stream_id)
        for task in mine:
            taken = task if task.frozen or task.kept else self._freeze(task)
            if taken is not None:
                self._put(self._now(), taken)

    def run(self) -> None:
        """Until `stop`, and until what is due then is done."""
        while (task := self._next()) is not None:
            taken: _Task | None = task
            if task.frozen is None and task.kept is None:
                try:
                    taken = self._freeze(task)
                finally:
                    with self._changed:
                        self._freezing = None
                        self._changed.notify_all()
            if taken is not None:
                self._do(taken)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _put(self, due_s: float, task: _Task) -> None:
        with self._changed:
            heapq.heappush(self._due, (due_s, next(self._turns), task))
            self._changed.notify_all()

    def _next(self) -> _Task | None:
        with self._changed:
            while True:
                left_s = self._due[0][0] - self._now() if self._due else None
                if left_s is not None and left_s <= 0:
                    task = heapq.heappop(self._due)[2]
                    if task.frozen is None and task.kept is None:
                        self._freezing = task.stream_id
                    return task
                if self._stopped:
                    return None
                self._changed.wait(left_s)

    def _do(self, task: _Task) -> None:
        alert = task.wanted.alert
        kept = task.kept
        if kept is None and task.frozen is not None:
            kept = self._make(task.wanted, task.frozen)
        if kept is None:
            return
        try:
            item_id = self._store(task.wanted, kept)
        except ServiceError as error:
            if task.tries + 1 < TRIES:
                log.warning("alert %s: its evidence is stored later: %s", alert.id, error)
                later = replace(task, frozen=None, kept=kept, tries=task.tries + 1)
                self._put(self._now() + RETRY_S, later)
                return
            log.error("alert %s: its evidence is lost: %s", alert.id, error)
            item_id = None
        kept.remove()
        if item_id is not None:
            self._on_kept(alert.stream_id)

    def _freeze(self, task: _Task) -> _Task | None:
        """The stream's last seconds as a file: no more than that is copied. None, and it is logged,
        where there is no room."""
        alert = task.wanted.alert
        try:
            folder = Path(tempfile.mkdtemp(prefix="alert", dir=self._folder))
        except OSError as error:
            log.error("alert %s has no evidence: %s", alert.id, error)
            return None
        try:
            clip = task.wanted.follower.freeze(alert.captured.timestamp(), folder / "clip.ts")
        except (ModerationError, OSError) as error:
            log.warning("alert %s has no clip: %s", alert.id, error)
            return replace(task, frozen=_Frozen(folder, None))
        return replace(task, frozen=_Frozen(folder, clip))

    def _make(self, wanted: Wanted, frozen: _Frozen) -> Kept | None:
        """A clip; where that cannot be, a picture. None, and it is logged, where neither can."""
        alert, moments = wanted.alert, wanted.moments()
        try:
            if frozen.clip is not None:
                return kept_clip(
                    alert,
                    frozen.clip,
                    wanted.frame,
                    moments,
                    program=self._program,
                    limits=self._limits,
                )
        except (ModerationError, OSError) as error:
            log.warning("alert %s has no clip: %s", alert.id, error)
        try:
            if wanted.frame is not None:
                return kept_picture(alert, wanted.frame, moments, frozen.folder)
        except OSError as error:  # the disk is full, above all
            log.error("alert %s has no evidence: %s", alert.id, error)
        frozen.remove()
        return None

    def _store(self, wanted: Wanted, kept: Kept) -> str | None:
        """The item's id; None where the stream, and the alert with it, is gone by now. Raises
        ServiceError."""
        media = kept.evidence.media
        restored: str | None = None
        for _ in range(2):
            self._blobs.put_file(media.blob_key, kept.path)
            try:
                alert = wanted.alert
                item_id = alert_items.keep(
                    self._db, alert.stream_id, alert.id, kept.evidence, restored=restored
                )
            except BytesRemovedError as error:
                # The same bytes were deleted just now: they are stored once more.
                restored = error.removal
                continue
            if item_id is None:
                discard(self._db, self._blobs, wanted.alert.tenant, media)
            return item_id
        raise ServiceError("the same bytes are deleted again and again", code="media_removed")
