"""One picture's bytes -> decision, reasons, coverage: what `scan` and a worker share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from moderation.decoders import DecoderPool
from moderation.errors import MediaError
from moderation.images import DecodePlan
from moderation.known import Listed, unseen_note
from moderation.models.runner import Scorer
from moderation.policy import (
    Outcome,
    Policy,
    decide,
    decide_failure,
    flat_scores,
    problem_of,
    summarise,
)
from moderation.settings import Settings
from moderation.types import (
    Coverage,
    DecodedImage,
    LabelScore,
    MediaInfo,
    MediaScores,
    Problem,
    Status,
    Verdict,
)


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What was found. `problem` is set when the medium could not be analysed at all; then
    there are no scores and the outcome is the policy's `on_failure`. What a list decided has none
    either.

    timings_ms: decode, lists (where they were asked), infer, policy, total.
    """

    outcome: Outcome
    peaks: Mapping[str, LabelScore]
    coverage: Coverage
    media: MediaInfo | None
    scores: MediaScores | None
    problem: Problem | None
    timings_ms: Mapping[str, float]
    decided_by: Literal["policy", "list"] = "policy"


Known = Callable[[DecodedImage], Listed | None]
"""What the lists say of a decoded picture."""


class Analyser:
    """Decoder children and a scorer, used by many threads at once."""

    def __init__(self, scorer: Scorer, pool: DecoderPool, settings: Settings) -> None:
        self._scorer = scorer
        self._pool = pool
        self._plan = DecodePlan(scorer.keys, settings.max_pixels, settings.max_frames)

    def analyse(
        self,
        data: bytes,
        policy: Policy,
        *,
        deadline: float | None = None,
        known: Known | None = None,
    ) -> Analysis:
        """Decode, score, decide. deadline: `time.monotonic()`. known: asked before the scorers;
        what it decides is not scored.

        Bytes that are no usable picture give an Analysis with its problem, never an
        exception. Raises ServiceError when our side failed: trying again may help.
        """
        timings: dict[str, float] = {}
        with _timed(timings, "total"):
            try:
                with _timed(timings, "decode"):
                    decoded = self._pool.decode(data, self._plan)
            except MediaError as error:
                return failure(policy, problem_of(error), timings)
            if known is not None:
                with _timed(timings, "lists"):
                    listed = known(decoded)
                if listed is not None:
                    return _by_list(listed, decoded, timings)
            with _timed(timings, "infer"):
                scores = self._scorer.score(decoded, deadline=deadline)
            with _timed(timings, "policy"):
                peaks = summarise(scores)
                coverage = coverage_of(decoded)
                outcome = decide(peaks, policy, coverage)
        return Analysis(outcome, peaks, coverage, decoded.info, scores, None, timings)


def failure(
    policy: Policy, problem: Problem, timings_ms: Mapping[str, float] | None = None
) -> Analysis:
    """The analysis of something that could not be looked at."""
    return Analysis(
        outcome=decide_failure(policy, problem),
        peaks={},
        coverage=Coverage(frames_total=0, frames_scored=0, complete=False),
        media=None,
        scores=None,
        problem=problem,
        timings_ms=timings_ms or {},
    )


def _by_list(listed: Listed, decoded: DecodedImage, timings_ms: Mapping[str, float]) -> Analysis:
    coverage = Coverage(
        frames_total=decoded.info.frames_total,
        frames_scored=0,
        complete=False,
        notes=[unseen_note(listed)],
    )
    return Analysis(
        listed.outcome, {}, coverage, decoded.info, None, None, timings_ms, decided_by="list"
    )


def coverage_of(decoded: DecodedImage) -> Coverage:
    """What was looked at, with a note for each thing a reader would not expect.

    Sampling an animation over its frames is complete coverage by design, and noted; a frame
    that failed to decode is not.
    """
    info = decoded.info
    notes = []
    if info.frames_total > info.frames_decoded + info.frames_failed:
        notes.append(f"{info.frames_decoded} of {info.frames_total} frames sampled")
    if info.frames_failed:
        notes.append(f"{info.frames_failed} sampled frames could not be decoded")
    if any(view.background != "opaque" for view in decoded.views):
        notes.append("transparent: scored on black and on white")
    if any(view.box != (0.0, 0.0, 1.0, 1.0) for view in decoded.views):
        notes.append("longer than 2:1: scored in overlapping tiles and as a whole")
    if info.trailing_bytes:
        notes.append(f"{info.trailing_bytes} bytes after the picture's end")
    return Coverage(
        frames_total=info.frames_total,
        frames_scored=info.frames_decoded,
        frames_failed=info.frames_failed,
        views_scored=len(decoded.views),
        complete=info.frames_failed == 0,
        notes=notes,
    )


def to_verdict(
    analysis: Analysis,
    *,
    id: str,  # noqa: A002 - the verdict's own field name
    policy: Policy,
    models: Sequence[str],
    device: str | None,
    job_id: str | None = None,
    source: str | None = None,
    data_id: str | None = None,
    timings_ms: Mapping[str, float] | None = None,
) -> Verdict:
    """The public verdict of an analysis. `timings_ms` is added to the analysis' own."""
    timings = {**(timings_ms or {}), **analysis.timings_ms}
    return Verdict(
        id=id,
        job_id=job_id,
        source=source,
        data_id=data_id,
        status=Status.DONE if analysis.problem is None else Status.FAILED,
        decision=analysis.outcome.decision,
        decided_by=analysis.decided_by,
        reasons=list(analysis.outcome.reasons),
        scores=flat_scores(analysis.peaks),
        coverage=analysis.coverage,
        policy=policy.ref,
        models=list(models),
        device=device,
        timings_ms={name: round(value, 2) for name, value in timings.items()},
        error=analysis.problem,
    )


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = (time.perf_counter() - started) * 1000
