"""The clip of an alert: frozen from the stream's ring, kept in the media store."""

from __future__ import annotations

import heapq
import itertools
import logging
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from moderation.blobs import BlobStore
from moderation.errors import ModerationError
from moderation.live.clip import playable
from moderation.live.follow import Follower
from moderation.store.alerts import attach_clip
from moderation.store.engine import Database
from moderation.store.live_changes import alerts_folder
from moderation.store.live_records import AlertRow, ClipRow, StreamLease

log = logging.getLogger(__name__)

TAIL_S: Final = 2.0
"""How long after its opening frame was captured an alert's clip goes on, at least where the stream
does."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The clip of an alert of a stream that is in hand."""

    lease: StreamLease
    alert: AlertRow
    follower: Follower


def clip_key(alert: AlertRow) -> str:
    """Where its clip lies in the media store."""
    return f"{alerts_folder(alert.tenant, alert.stream_id)}/{alert.id}.mp4"


class EvidenceKeeper:
    """Makes clips in a thread of its own (`run`): an alert does not wait for them.

    folder: for what is in the making. program: ffmpeg. now: seconds UTC, of the capture times.
    on_kept: called with the stream's id.
    """

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        folder: Path,
        program: str,
        *,
        now: Callable[[], float],
        on_kept: Callable[[str], None] = lambda stream_id: None,
    ) -> None:
        self._db, self._blobs, self._folder, self._program = db, blobs, folder, program
        self._now, self._on_kept = now, on_kept
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Wanted]] = []
        self._turns = itertools.count()
        self._making: str | None = None
        self._stopped = False

    def want(self, wanted: Wanted) -> None:
        """Make its clip once the tail has come."""
        due_s = wanted.alert.captured.timestamp() + TAIL_S
        with self._changed:
            heapq.heappush(self._due, (due_s, next(self._turns), wanted))
            self._changed.notify_all()

    def finish(self, stream_id: str) -> None:
        """Before the stream's reader is closed: make what is still wanted of it now."""
        with self._changed:
            mine = [one for _, _, one in self._due if one.lease.stream_id == stream_id]
            self._due = [item for item in self._due if item[2].lease.stream_id != stream_id]
            heapq.heapify(self._due)
            self._changed.wait_for(lambda: self._making != stream_id)
        for wanted in mine:
            self._make(wanted)

    def run(self) -> None:
        """Until `stop`."""
        while (wanted := self._next()) is not None:
            try:
                self._make(wanted)
            finally:
                with self._changed:
                    self._making = None
                    self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _next(self) -> Wanted | None:
        with self._changed:
            while not self._stopped:
                left_s = self._due[0][0] - self._now() if self._due else None
                if left_s is not None and left_s <= 0:
                    wanted = heapq.heappop(self._due)[2]
                    self._making = wanted.lease.stream_id
                    return wanted
                self._changed.wait(left_s)
            return None

    def _make(self, wanted: Wanted) -> None:
        key = clip_key(wanted.alert)
        try:
            clip = self._keep(wanted, key)
            if not attach_clip(self._db, wanted.lease, wanted.alert.id, clip):
                # The stream is another's, and the alert too: nobody would find the clip.
                self._blobs.delete(key)
                return
        except (ModerationError, OSError) as error:
            log.warning("alert %s has no clip: %s", wanted.alert.id, error)
            return
        self._on_kept(wanted.lease.stream_id)

    def _keep(self, wanted: Wanted, key: str) -> ClipRow:
        with tempfile.TemporaryDirectory(prefix="clip", dir=self._folder) as own:
            clip = wanted.follower.freeze(wanted.alert.captured.timestamp(), Path(own) / "clip.ts")
            with playable(clip, self._program) as path:
                size = path.stat().st_size
                self._blobs.put_file(key, path)
        return ClipRow(key, "video/mp4", size, datetime.fromtimestamp(clip.begun_s, UTC))
