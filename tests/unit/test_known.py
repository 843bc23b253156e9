"""What it means that something is on lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moderation.known import (
    BankKind,
    Hit,
    MatchKind,
    decide,
    looks_through,
    objected,
    verdict_of,
)
from moderation.types import (
    Coverage,
    Decision,
    DecodedImage,
    InputKey,
    MediaInfo,
    Reason,
    Status,
    Verdict,
    View,
)

KEY = InputKey(8, 8)


def hit(kind: BankKind, match: MatchKind = MatchKind.PDQ, **changes: Any) -> Hit:
    values: dict[str, Any] = {
        "bank_id": f"bank_{kind}_{match}",
        "bank": f"{kind} {match}",
        "kind": kind,
        "decision": Decision.PASS if kind is BankKind.ALLOW else Decision.BLOCK,
        "label": None if kind is BankKind.ALLOW else "porn.explicit",
        "entry_id": "entry_1",
        "match": match,
        "distance": 0 if match is MatchKind.SHA256 else 12,
    }
    return Hit(**(values | changes))


ALLOW, BLOCK = BankKind.ALLOW, BankKind.BLOCK
SHA256, PDQ = MatchKind.SHA256, MatchKind.PDQ


@pytest.mark.parametrize(
    ("hits", "decision"),
    [
        ([hit(ALLOW)], Decision.PASS),
        ([hit(ALLOW, distance=0), hit(BLOCK, distance=31)], Decision.BLOCK),
        ([hit(ALLOW, SHA256), hit(BLOCK, PDQ)], Decision.PASS),
        ([hit(ALLOW, SHA256), hit(BLOCK, SHA256)], Decision.BLOCK),
        ([hit(BLOCK, SHA256, decision=Decision.REVIEW), hit(BLOCK, PDQ)], Decision.REVIEW),
        ([hit(BLOCK, decision=Decision.REVIEW), hit(BLOCK, bank_id="bank_2")], Decision.BLOCK),
    ],
)
def test_bytes_outrank_looks_and_block_outranks_allow(hits: list[Hit], decision: Decision) -> None:
    for ordered in (hits, hits[::-1]):
        listed = decide(ordered)
        assert listed is not None
        assert listed.outcome.decision is decision


def test_the_newest_of_those_that_decide_is_told() -> None:
    listed = decide(
        [
            hit(BLOCK, version=2, decision=Decision.REVIEW),
            hit(BLOCK, version=5, bank_id="bank_2"),
            hit(ALLOW, version=9),
        ]
    )
    assert listed is not None
    assert listed.newest == 5
    listed = decide([hit(ALLOW, version=9), hit(ALLOW, version=3, distance=1)])
    assert listed is not None
    assert listed.newest == 9


def test_nothing_met_means_nothing() -> None:
    assert decide([]) is None
    assert decide([hit(ALLOW), hit(ALLOW, SHA256)], may_pass=False) is None
    found = decide([hit(ALLOW), hit(BLOCK)], may_pass=False)
    assert found is not None
    assert found.outcome.decision is Decision.BLOCK


def test_each_bank_gives_a_reason_by_its_nearest_entry() -> None:
    hits = [
        hit(BLOCK, distance=20, entry_id="entry_far"),
        hit(BLOCK, distance=4, entry_id="entry_near"),
        hit(BLOCK, bank_id="bank_2", bank="other", label="violence.gore", decision=Decision.REVIEW),
    ]
    listed = decide(hits)
    assert listed is not None
    near, other = listed.outcome.reasons
    assert (near.category, near.label, near.decision) == ("porn", "porn.explicit", Decision.BLOCK)
    assert near.detail == (
        "it differs in 4 of 256 bits from an entry of the block list 'block pdq' (entry_near)"
    )
    assert (near.score, near.threshold, near.model) == (None, None, None)
    assert (other.label, other.decision) == ("violence.gore", Decision.REVIEW)


def test_a_verdict_says_that_nobody_looked() -> None:
    listed = decide([hit(ALLOW, SHA256)])
    assert listed is not None
    verdict = verdict_of(
        listed, id="item_1", job_id="job_1", source="a.png", data_id="d", policy="default@1"
    )
    assert (verdict.decision, verdict.decided_by) == (Decision.PASS, "list")
    assert (verdict.reasons, verdict.models, verdict.scores) == ([], [], {})
    assert not verdict.coverage.complete
    assert verdict.coverage.notes == [
        "decided without a look: the same bytes are on the allow list 'allow sha256' (entry_1)"
    ]


def decoded(total: int, *views: View) -> DecodedImage:
    info = MediaInfo("png", 8, 8, total, 1, 100)
    return DecodedImage(info, views, {KEY: np.zeros((len(views), 8, 8, 3), np.uint8)})


def test_a_hash_does_not_speak_for_what_it_did_not_see() -> None:
    assert looks_through(decoded(1, View()))
    assert not looks_through(decoded(2, View()))
    assert not looks_through(decoded(1, View(background="black"), View(background="white")))


FILM = Verdict(
    id="item_1",
    status=Status.DONE,
    decision=Decision.REVIEW,
    reasons=[Reason(category="violence", label="violence.fight", decision=Decision.REVIEW)],
    coverage=Coverage(frames_total=9, frames_scored=9, complete=True),
    policy="default@1",
)


def test_a_frame_on_a_list_makes_a_film_graver_and_never_milder() -> None:
    worse = objected(FILM, [hit(BLOCK, time_s=12.5), hit(ALLOW, bank_id="bank_3", time_s=1.0)])
    assert (worse.decision, worse.decided_by) == (Decision.BLOCK, "list")
    listed, seen = worse.reasons
    assert listed.detail is not None
    assert listed.detail.startswith("the frame at 12.50 s differs in 12 of 256 bits")
    assert seen == FILM.reasons[0]
    blocked = FILM.model_copy(update={"decision": Decision.BLOCK})
    assert objected(blocked, [hit(BLOCK, decision=Decision.REVIEW)]).decision is Decision.BLOCK
    assert objected(FILM, [hit(ALLOW, time_s=1.0)]) is FILM
