"""The steps from a probed video to its verdict, but for reading and scoring. Pure.

Whoever analyses a video, in one process or over a queue, goes through the same rounds: `begin`
plans what to look at, `look_closer` says what to look at again once that is scored, until it
says nothing more, and `conclude` judges all frames together. `clips` stands around the last two,
for models that read several frames at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from moderation.aggregate import Frame, Timeline, aggregate, hits
from moderation.policy import Outcome, Policy, flat_scores, unseen
from moderation.types import Decision, Status, Verdict, worst
from moderation.video.index import FrameIndex
from moderation.video.probe import VideoInfo
from moderation.video.sampling import Chunk, SamplingOptions, chosen, cut, plan, refine

TOLERANCE_S = 0.25
"""How closely the borders of a segment are looked for."""
PARTS = 4
ROUNDS = 6
"""Rounds of looking in all: four parts a round take 5 s to 0.25 s in three."""
EXACT_EVERY = 10
"""Of so many neighbouring chunks of the first round one is read exactly, a short film as a whole:
who hides something in frames that a quick reader skips shows it there."""
LATE_S = 1.0
"""How much later than its moment a frame may come and still stand for it."""


@dataclass(frozen=True, slots=True)
class Film:
    """A video that is being analysed, as it is kept between the rounds.

    gap_s: a longer time without a seen moment counts as not seen. capped: more moments were
    wanted than `max_frames` allows.
    """

    info: VideoInfo
    gap_s: float
    capped: bool

    def to_json(self) -> dict[str, Any]:
        return {"info": asdict(self.info), "gap_s": self.gap_s, "capped": self.capped}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `to_json` gave, also after it was JSON."""
        info = VideoInfo(**{**told["info"], "audio": tuple(told["info"]["audio"])})
        return cls(info, float(told["gap_s"]), bool(told["capped"]))


def begin(
    info: VideoInfo,
    index: FrameIndex,
    options: SamplingOptions,
    scenes: Sequence[float] | None = None,
) -> tuple[Film, tuple[Chunk, ...]]:
    """The first round: the whole video by its plan. scenes: times of the cuts, which the mode
    "scene" needs (`video.scenes.find_scenes`)."""
    planned = plan(info.held_s, index.fps, options, index.keyframes, scenes)
    film = Film(info, planned.largest_gap_s + LATE_S, planned.capped)
    parts = cut(planned.times, index, exact=False)
    exact = chosen(options.seed, min(EXACT_EVERY, len(parts)))
    return film, tuple(replace(part, exact=part.number % EXACT_EVERY == exact) for part in parts)


def look_closer(
    frames: Sequence[Frame], policy: Policy, film: Film, index: FrameIndex, *, first: int
) -> tuple[Chunk, ...]:
    """The next round: where a label comes or goes between two moments. Nothing: all is known.

    frames: of all rounds so far, in any order. first: how many chunks there were so far.
    """
    seen = sorted((f.time_s, hits(f.peaks, policy)) for f in frames if f.peaks is not None)
    distinct = dict(seen)
    extra = refine(
        list(distinct),
        list(distinct.values()),
        tolerance_s=max(TOLERANCE_S, 2 / (index.fps or 25.0)),
        parts=PARTS,
    )
    return cut(extra, index, exact=True, first=first)


def conclude(frames: Sequence[Frame], policy: Policy, film: Film) -> Timeline:
    """The decision over all rounds; frames in any order. Further video tracks were not seen."""
    timeline = aggregate(
        frames,
        policy,
        duration_s=film.info.duration_s,
        frames_total=film.info.frames,
        gap_s=film.gap_s,
    )
    others = film.info.tracks - 1
    if others == 0:
        return timeline
    words = f"{others} further video track{'s' if others > 1 else ''} not looked at"
    coverage = timeline.coverage.model_copy(
        update={"complete": False, "notes": [*timeline.coverage.notes, words]}
    )
    outcome = timeline.outcome
    if policy.on_failure is not Decision.PASS:
        reason = unseen(policy, "coverage.tracks", words)
        outcome = Outcome(worst(outcome.decision, reason.decision), (*outcome.reasons, reason))
    return replace(timeline, outcome=outcome, coverage=coverage)


def film_verdict(
    timeline: Timeline,
    film: Film,
    *,
    id: str,  # noqa: A002 - the verdict's own field name
    policy: Policy,
    models: Sequence[str],
    device: str | None,
    job_id: str | None = None,
    source: str | None = None,
    data_id: str | None = None,
    notes: Sequence[str] = (),
    timings_ms: Mapping[str, float] | None = None,
) -> Verdict:
    """The public verdict. Sound is not analysed, and the coverage says so. notes: more of them."""
    told = [*timeline.coverage.notes, *notes]
    if film.capped:
        told.append("more moments were wanted than max_frames allows: spread evenly")
    if film.info.audio:
        told.append(f"sound not analysed ({', '.join(film.info.audio)})")
    return Verdict(
        id=id,
        job_id=job_id,
        source=source,
        data_id=data_id,
        status=Status.DONE,
        decision=timeline.outcome.decision,
        reasons=list(timeline.outcome.reasons),
        scores=flat_scores(timeline.peaks),
        segments=[passage.segment() for passage in timeline.passages],
        coverage=timeline.coverage.model_copy(update={"notes": told}),
        policy=policy.ref,
        models=list(models),
        device=device,
        timings_ms={name: round(value, 2) for name, value in (timings_ms or {}).items()},
    )
