"""Films made of scores, one moment a second."""

from __future__ import annotations

from moderation.aggregate import (
    Frame,
    Timeline,
    aggregate,
)
from moderation.policy import Policy, Rule
from moderation.types import (
    Decision,
    LabelScore,
)

PORN = "porn.explicit"
GUN = "violence.weapon"
BOX = (0.1, 0.1, 0.2, 0.2, 0.9)
TWO_OF_THREE = Rule(label=PORN, review_at=0.7, block_at=0.95, min_frames=2, window=3)
"""Opens at 0.70, closes below 0.54."""


def found(score: float, label: str = PORN, *, box: bool = False) -> LabelScore:
    return LabelScore(label, score, "m@1", boxes=(BOX,) if box else ())


def policy(*rules: Rule, on_failure: Decision = Decision.REVIEW) -> Policy:
    return Policy(id="p", version=1, rules=rules or (TWO_OF_THREE,), on_failure=on_failure)


def film(*scores: float | None, step: float = 1.0, box: bool = False) -> list[Frame]:
    """A moment every `step` seconds; None: not seen."""
    return [
        Frame(i * step, None if s is None else {PORN: found(s, box=box)})
        for i, s in enumerate(scores)
    ]


def judge(frames: list[Frame], rules: Policy | None = None, *, gap_s: float = 1.0) -> Timeline:
    duration_s = frames[-1].time_s if frames else 1.0
    return aggregate(
        frames, rules or policy(), duration_s=duration_s, frames_total=900, gap_s=gap_s
    )


def spans(timeline: Timeline) -> list[tuple[str, float, float]]:
    return [(p.decision.value, p.start_s, p.end_s) for p in timeline.passages]
