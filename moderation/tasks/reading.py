"""What a media worker does for videos: it brings jobs on and reads chunks, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from moderation.models.keys import input_keys, input_windows
from moderation.packs import PackStore
from moderation.settings import Settings
from moderation.store import chunks, films
from moderation.store.chunks import Stage
from moderation.store.engine import Database
from moderation.tasks.announce import Enqueue, Wake
from moderation.tasks.files import LocalFiles
from moderation.tasks.lot import Lot
from moderation.tasks.read import ReadRuntime, run_read
from moderation.tasks.secret import sampling_secret
from moderation.tasks.video import VideoRuntime, run_video
from moderation.tasks.working import Working
from moderation.video.dedupe import DedupeOptions
from moderation.video.ffmpeg import program
from moderation.video.look import look
from moderation.video.probe import ProbeLimits, probe
from moderation.video.sampling import SamplingOptions
from moderation.video.scenes import find_scenes
from moderation.video.source import ReadOptions


@dataclass(frozen=True)
class Reading:
    """at_once: videos under way at a time, over all workers."""

    video: VideoRuntime
    read: ReadRuntime
    at_once: int
    working: Working

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        db: Database,
        files: LocalFiles,
        packs: PackStore,
        waker: Wake,
        producer: Enqueue,
        owner: str,
        working: Working,
    ) -> Self:
        """Raises ConfigError: no ffmpeg, no manifests, no place for the secret."""
        options = ReadOptions(program(settings.ffmpeg), max_pixels=settings.max_pixels)
        video = VideoRuntime(
            db=db,
            files=files,
            waker=waker,
            producer=producer,
            owner=owner,
            probe=probe,
            scenes=find_scenes,
            limits=ProbeLimits(
                max_duration_s=settings.max_video_seconds, max_pixels=settings.max_pixels
            ),
            reading=options,
            sampling=SamplingOptions(
                interval_s=settings.video_interval, max_frames=settings.video_max_frames
            ),
            secret=sampling_secret(settings),
            lease_s=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            ahead=settings.video_chunks_ahead,
            windows=input_windows(settings),
            lot=Lot.from_settings(settings),
        )
        read = ReadRuntime(
            db=db,
            files=files,
            packs=packs,
            producer=producer,
            owner=owner,
            look=look,
            keys=input_keys(settings),
            reading=options,
            dedupe=DedupeOptions(),
            lease_s=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            ahead=settings.video_chunks_ahead,
        )
        return cls(video, read, settings.videos_at_once, working)

    def once(self) -> bool:
        """Do the one thing that has waited longest; False when there is nothing to do. Raises
        ServiceError when the database does not answer."""
        with self.working.chosen(self._next) as name:
            if name is None:
                return False
            job_id, _, number = name.partition("/")
            if number:
                run_read(job_id, int(number), self.read)
            else:
                run_video(job_id, self.video)
            return True

    def _next(self, busy: frozenset[str]) -> str | None:
        """The job or the chunk that has waited longest, without those that are in hand."""
        db, most = self.read.db, self.read.max_attempts
        step = films.next_step(db, at_once=self.at_once, max_attempts=most, without=busy)
        part = chunks.candidate(db, Stage.READ, max_attempts=most, without=busy)
        if part is None:
            return None if step is None else step.job_id
        if step is not None and (step.urgency, step.queued) <= (part.urgency, part.due):
            return step.job_id
        return part.name
