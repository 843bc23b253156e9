"""The reading of one chunk of a video: claim, decode, frame pack, on to the scoring."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.errors import MediaError, NotFoundError, ServiceError
from moderation.film import Film
from moderation.packs import PackStore, pack_key
from moderation.store import chunks
from moderation.store.chunks import ChunkClaim, Stage
from moderation.store.engine import Database
from moderation.store.frames import load_asks
from moderation.tasks.announce import Enqueue, send_hints
from moderation.tasks.image import MEDIA_MISSING
from moderation.tasks.video import Files
from moderation.types import InputKey
from moderation.video.dedupe import DedupeOptions
from moderation.video.pack import FramePack, dump_pack
from moderation.video.probe import VideoInfo
from moderation.video.sampling import Chunk
from moderation.video.source import ReadOptions

log = logging.getLogger(__name__)

Look = Callable[[Path, Chunk, VideoInfo, Sequence[InputKey], ReadOptions, DedupeOptions], FramePack]


@dataclass(frozen=True)
class ReadRuntime:
    """What a media worker has ready for the reading of chunks. `owner`: the worker's id. `keys`:
    what the models of the infer workers read."""

    db: Database
    files: Files
    packs: PackStore
    producer: Enqueue
    owner: str
    look: Look
    keys: tuple[InputKey, ...]
    reading: ReadOptions
    dedupe: DedupeOptions
    lease_s: float
    max_attempts: int
    ahead: int


def run_read(job_id: str, number: int, runtime: ReadRuntime) -> bool:
    """Read one chunk, if it is still to be read; whether it was ours.

    What cannot be read of it is told in the pack. A failure of our own side puts the chunk back,
    until its attempts are used up. Raises ServiceError only when the database itself cannot be
    reached: the lease then runs out.
    """
    claim = chunks.claim_chunk(
        runtime.db,
        job_id,
        number,
        Stage.READ,
        runtime.owner,
        runtime.lease_s,
        max_attempts=runtime.max_attempts,
    )
    if claim is None:
        return False
    try:
        runtime.packs.put(pack_key(job_id, number), dump_pack(_look(claim, runtime)))
    except NotFoundError:
        _fail(claim, MEDIA_MISSING.code, runtime)
    except MediaError as error:
        _fail(claim, error.code, runtime)
    except ServiceError as error:
        log.warning("chunk %s attempt %d: %s: %s", claim.name, claim.attempt, error.code, error)
        _give_back(claim, error.code, runtime)
    except Exception as error:
        # A defect of ours: give the chunk back at once instead of sitting on its lease.
        log.exception("chunk %s attempt %d", claim.name, claim.attempt)
        _give_back(claim, f"internal: {type(error).__name__}", runtime)
    else:
        hints = chunks.read_done(runtime.db, claim)
        if hints is None:
            log.info("chunk %s attempt %d is not wanted any more", claim.name, claim.attempt)
        else:
            send_hints(runtime.producer, hints)
    return True


def _look(claim: ChunkClaim, runtime: ReadRuntime) -> FramePack:
    told = load_asks(claim.asks)
    chunk = Chunk(claim.number, told.asks, told.seek_s, told.exact, told.window)
    info = Film.from_json(claim.film).info
    with runtime.files.open(claim.media.blob_key) as path:
        return runtime.look(path, chunk, info, runtime.keys, runtime.reading, runtime.dedupe)


def _fail(claim: ChunkClaim, error: str, runtime: ReadRuntime) -> None:
    log.warning("chunk %s cannot be read: %s", claim.name, error)
    hints = chunks.fail(runtime.db, claim, error=error, ahead=runtime.ahead)
    send_hints(runtime.producer, hints)


def _give_back(claim: ChunkClaim, error: str, runtime: ReadRuntime) -> None:
    hints = chunks.give_back(
        runtime.db,
        claim,
        error=error,
        ahead=runtime.ahead,
        max_attempts=runtime.max_attempts,
    )
    send_hints(runtime.producer, hints)
