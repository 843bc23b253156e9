"""The scoring of one chunk of a video: claim, frame pack, scores, one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from moderation.aggregate import Frame
from moderation.analyse_video import score_pack
from moderation.clips import without
from moderation.errors import ServiceError
from moderation.film import Film, conclude
from moderation.models.runner import Scorer
from moderation.packs import PackStore, pack_key
from moderation.store import chunks
from moderation.store.chunks import ChunkClaim, Stage
from moderation.store.engine import Database
from moderation.store.frames import Hash, Looked, dump_hashes, dump_looked, load_asks
from moderation.tasks.announce import Enqueue, send_hints
from moderation.types import Window, worst
from moderation.video.dedupe import FrameHash
from moderation.video.pack import FramePack, load_pack

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreRuntime:
    """What an infer worker has ready for the scoring of chunks. `owner`: the worker's id."""

    db: Database
    packs: PackStore
    scorer: Scorer
    producer: Enqueue
    owner: str
    lease_s: float
    max_attempts: int
    ahead: int


def run_score(job_id: str, number: int, runtime: ScoreRuntime) -> bool:
    """Score one chunk, if it is still to be scored; whether it was ours.

    A pack that is gone or broken, or lacks a size that our models read, is read again. A failure
    of our own side puts the chunk back, until its attempts are used up. Raises ServiceError only
    when the database itself cannot be reached: the lease then runs out.
    """
    claim = chunks.claim_chunk(
        runtime.db,
        job_id,
        number,
        Stage.SCORE,
        runtime.owner,
        runtime.lease_s,
        max_attempts=runtime.max_attempts,
    )
    if claim is None:
        return False
    try:
        window = load_asks(claim.asks).window
        pack = _pack(claim, window, runtime)
        if pack is None:
            _give_back(claim, "pack_missing", runtime, to=Stage.READ)
            return True
        film = Film.from_json(claim.film)
        frames = score_pack(runtime.scorer, pack, film.info, claim.policy, window)
        enough = claim.round == 0 and _enough(claim, without(frames, runtime.scorer.windows), film)
    except ServiceError as error:
        log.warning("chunk %s attempt %d: %s: %s", claim.name, claim.attempt, error.code, error)
        _give_back(claim, error.code, runtime)
    except Exception as error:
        # A defect of ours: give the chunk back at once instead of sitting on its lease.
        log.exception("chunk %s attempt %d", claim.name, claim.attempt)
        _give_back(claim, f"internal: {type(error).__name__}", runtime)
    else:
        # Frames of windows are of another size, and too many, to know copies of a film by.
        hashes = pack.hashes if window is None else ()
        _done(claim, frames, hashes, enough, runtime)
    return True


def _pack(claim: ChunkClaim, window: Window | None, runtime: ScoreRuntime) -> FramePack | None:
    """The chunk's pack; None when it has to be read again."""
    scorer = runtime.scorer
    data = runtime.packs.get(pack_key(claim.job_id, claim.number))
    if data is None:
        log.warning("chunk %s: its pack is gone", claim.name)
        return None
    try:
        pack = load_pack(data)
    except ServiceError as error:
        log.warning("chunk %s: %s", claim.name, error)
        return None
    needed = set(scorer.keys) if window is None else {window.key}
    if not needed <= set(pack.pixels) or (window is not None and window not in scorer.windows):
        log.warning("chunk %s was read for other models", claim.name)
        return None
    return pack


def _enough(claim: ChunkClaim, frames: tuple[Frame, ...], film: Film) -> bool:
    """Whether the chunk alone bears out the decision at which the job asked to stop."""
    if claim.video.stop_on is None:
        return False
    passages = conclude(frames, claim.policy, film).passages
    found = worst(*(passage.decision for passage in passages))
    return found.severity >= claim.video.stop_on.severity


def _done(
    claim: ChunkClaim,
    frames: tuple[Frame, ...],
    seen: Sequence[FrameHash],
    enough: bool,
    runtime: ScoreRuntime,
) -> None:
    looked = Looked(frames, runtime.scorer.models, runtime.scorer.device)
    hashes = [Hash(one.time_s, one.pdq, one.quality) for one in seen]
    hints = chunks.score_done(
        runtime.db,
        claim,
        frames=dump_looked(looked),
        hashes=dump_hashes(hashes),
        ahead=runtime.ahead,
        enough=enough,
    )
    if hints is None:
        log.info("chunk %s attempt %d is not wanted any more", claim.name, claim.attempt)
        return
    send_hints(runtime.producer, hints)
    try:
        runtime.packs.delete(pack_key(claim.job_id, claim.number))
    except ServiceError as error:
        log.info("the pack of chunk %s is left to the sweeper: %s", claim.name, error)


def _give_back(
    claim: ChunkClaim, error: str, runtime: ScoreRuntime, *, to: Stage | None = None
) -> None:
    hints = chunks.give_back(
        runtime.db,
        claim,
        error=error,
        ahead=runtime.ahead,
        max_attempts=runtime.max_attempts,
        to=to,
    )
    send_hints(runtime.producer, hints)
