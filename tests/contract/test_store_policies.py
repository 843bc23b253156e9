"""Versions of policies, and what other rules would have decided, on SQLite and PostgreSQL."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from moderation.aggregate import Frame, aggregate
from moderation.analyse import Analysis, coverage_of, failure, to_verdict
from moderation.errors import ConflictError, InputError, NotFoundError, PolicyError
from moderation.packed_scores import pack_film
from moderation.policy import Policy, Rule, decide, decide_failure, problem_of, summarise
from moderation.store import decisions, items, jobs, judged, releases, streams
from moderation.store.engine import Database
from moderation.store.live_records import NewStream, StreamChanges
from moderation.store.records import Finished, NewMedia
from moderation.store.releases import FROM_FILE, Policies
from moderation.store.review_records import Action, Choice
from moderation.store.submit import submit
from moderation.store.tables import audit, item, scores
from moderation.tasks.image import pack
from moderation.types import (
    Decision,
    DecodedImage,
    Detection,
    LabelScore,
    MediaInfo,
    MediaScores,
    Problem,
    View,
    ViewScores,
)
from moderation.whatif import Comparison, LeftOut
from tests.contract.store_data import MODELS, NOW, new_item, together

PORN, GUN = "porn.explicit", "violence.weapon"
NOW_RULES = Policy(
    id="default",
    version=4,
    rules=(
        Rule(label=PORN, review_at=0.7, block_at=0.95, min_frames=2, window=3),
        Rule(label=GUN, review_at=0.9, block_at=0.99, block_needs="evidence", window=3),
    ),
)
STRICT = NOW_RULES.model_copy(
    update={
        "rules": (
            Rule(label=PORN, review_at=0.5, block_at=0.9, min_frames=2, window=3),
            Rule(label=GUN, review_at=0.6, block_at=0.8, block_needs="evidence", window=3),
        )
    }
)
FILES = {"default": NOW_RULES, "lenient": NOW_RULES.model_copy(update={"id": "lenient"})}


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


# --- versions ---------------------------------------------------------------------------


def publish(
    db: Database, draft: Policy = STRICT, base: Policy | None = NOW_RULES, **more: Any
) -> Any:
    return releases.publish(db, "default", draft, base=base, **({"actor": "me"} | more))


def test_what_was_published_is_in_force_at_once_and_everywhere(db: Database) -> None:
    here, there = Policies(FILES), Policies(FILES)
    assert here.of(db, "default")["default"] == there.of(db, "default")["default"] == NOW_RULES
    done = publish(db, note="too many misses", now=NOW)
    assert done.policy.ref == "default@5"
    for one in (here, there):
        assert one.of(db, "default")["default"] == done.policy
        assert one.of(db, "default")["lenient"] == FILES["lenient"]
        assert one.of(db, "elsewhere")["default"] == NOW_RULES
    newest, oldest = releases.history(db, "default", "default")
    assert (newest.policy, newest.actor, newest.note) == (done.policy, "me", "too many misses")
    assert (oldest.policy, oldest.actor) == (NOW_RULES, FROM_FILE)
    with db.connect() as connection:
        row = connection.execute(select(audit).where(audit.c.action == "policy.publish")).one()
    assert (row.actor, row.target, row.detail["ref"]) == ("me", "default", "default@5")


def test_an_earlier_version_can_be_named_and_restored(db: Database) -> None:
    known = Policies(FILES)
    fifth = publish(db).policy
    assert known.named(db, "default", "default") == fifth
    assert known.named(db, "default", "default@4") == NOW_RULES
    back = publish(db, NOW_RULES, fifth, restores=4).policy
    assert (back.ref, back.rules) == ("default@6", NOW_RULES.rules)
    assert known.named(db, "default", "default@5") == fifth
    assert releases.history(db, "default", "default")[0].restores == 4
    for name in ("default@7", "default@x", "default@" + "9" * 30, "none", "none@1"):
        with pytest.raises(PolicyError):
            known.named(db, "default", name)
    with pytest.raises(PolicyError):
        known.named(db, "elsewhere", "default@5")


def test_nobody_undoes_what_another_did_meanwhile(db: Database) -> None:
    publish(db)
    with pytest.raises(ConflictError) as caught:
        publish(db, NOW_RULES.model_copy(update={"on_failure": Decision.BLOCK}))
    assert caught.value.code == "policy_changed"
    with pytest.raises(ConflictError):
        publish(db, base=None)


def test_of_many_who_publish_at_once_one_does(db: Database) -> None:
    def one(number: int) -> str:
        try:
            return publish(db, actor=str(number)).policy.ref
        except ConflictError as error:
            return error.code

    told = Counter(together(one))
    assert told == {"default@5": 1, "policy_changed": 7}
    assert [r.policy.ref for r in releases.history(db, "default", "default")] == [
        "default@5",
        "default@4",
    ]


def test_nothing_new_is_not_published(db: Database) -> None:
    with pytest.raises(InputError) as caught:
        publish(db, NOW_RULES.model_copy(update={"version": 9}))
    assert caught.value.code == "policy_same"
    assert releases.history(db, "default", "default") == ()


def test_a_new_policy_begins_at_one(db: Database) -> None:
    made = publish(db, STRICT.model_copy(update={"id": "my_own-1"}), None).policy
    assert made.ref == "my_own-1@1"
    assert Policies(FILES).of(db, "default")["my_own-1"] == made


def test_streams_go_on_under_the_new_version_unless_they_are_pinned(db: Database) -> None:
    def stream(**changes: Any) -> str:
        values = {"tenant": "default", "url": "rtmp://h/x", "shown": "rtmp://h/x"}
        return streams.create(db, NewStream(**(values | {"policy": NOW_RULES} | changes))).id

    follows, pinned = stream(), stream(pinned=True)
    other = stream(policy=NOW_RULES.model_copy(update={"id": "default-2"}))
    elsewhere = stream(tenant="elsewhere")
    assert publish(db).streams == 1
    refs = {
        one: streams.get(db, tenant, one).policy
        for one, tenant in (
            (follows, "default"),
            (pinned, "default"),
            (other, "default"),
            (elsewhere, "elsewhere"),
        )
    }
    assert refs == {
        follows: "default@5",
        pinned: "default@4",
        other: "default-2@4",
        elsewhere: "default@4",
    }


def test_a_stream_that_begins_while_a_version_is_published_has_it(db: Database) -> None:
    values: dict[str, Any] = {"tenant": "default", "url": "rtmp://h/x", "shown": "rtmp://h/x"}
    values["policy"] = NOW_RULES
    publish(db)  # since the policies of these were chosen
    follows = streams.create(db, NewStream(**values))
    pinned = streams.create(db, NewStream(**values, pinned=True))
    assert (follows.policy, pinned.policy) == ("default@5", "default@4")
    for changes, ref in (
        (StreamChanges(policy=NOW_RULES, pinned=True), "default@4"),
        (StreamChanges(policy=NOW_RULES), "default@5"),
    ):
        assert streams.change(db, "default", follows.id, changes).policy == ref


def test_streams_that_begin_or_change_just_then_have_it_too(db: Database) -> None:
    values: dict[str, Any] = {"tenant": "default", "url": "rtmp://h/x", "shown": "rtmp://h/x"}
    values["policy"] = NOW_RULES

    def one(number: int) -> str | None:
        if number == 3:
            publish(db)
            return None
        made = streams.create(db, NewStream(**values))
        return streams.change(db, "default", made.id, StreamChanges(policy=NOW_RULES)).id

    for stream_id in together(one):
        if stream_id is not None:
            assert streams.get(db, "default", stream_id).policy == "default@5"


def test_what_is_watched_in_shadow_decides_nothing_and_ends_when_it_is_published(
    db: Database,
) -> None:
    for draft in (NOW_RULES, STRICT):
        releases.watch(db, "default", draft, actor="me", now=NOW)
    assert Policies(FILES).of(db, "default")["default"] == NOW_RULES
    assert releases.shadows(db, "elsewhere") == {}
    (shadow,) = releases.shadows(db, "default").values()
    assert (shadow.policy.rules, shadow.actor, shadow.since) == (STRICT.rules, "me", NOW)
    other = NOW_RULES.model_copy(update={"on_failure": Decision.BLOCK})
    fifth = publish(db, other).policy
    assert releases.shadows(db, "default")
    publish(db, STRICT, fifth)
    assert releases.shadows(db, "default") == {}
    with pytest.raises(NotFoundError):
        releases.unwatch(db, "default", "default", actor="me")
    releases.watch(db, "default", NOW_RULES, actor="me")
    releases.unwatch(db, "default", "default", actor="me")
    assert releases.shadows(db, "default") == {}


# --- what if ----------------------------------------------------------------------------


def picture(chance: random.Random) -> MediaScores:
    views = []
    for _ in range(chance.randint(1, 3)):
        said = {label: round(chance.random(), 2) for label in (PORN, GUN)}
        boxes = tuple(
            Detection(GUN, None, (0.1, 0.1, 0.2, 0.2), round(chance.random(), 2))
            for _ in range(chance.randint(0, 2))
        )
        views.append(ViewScores(said, dict.fromkeys(said, "a@1"), detections=boxes))
    return MediaScores(tuple(View(frame=i) for i in range(len(views))), tuple(views))


def film(chance: random.Random) -> list[Frame]:
    def peaks() -> dict[str, LabelScore]:
        box = (0.1, 0.1, 0.2, 0.2, round(chance.random(), 2))
        return {
            label: LabelScore(label, round(chance.random(), 2), "a@1", boxes=(box,))
            for label in (PORN, GUN)
        }

    return [
        Frame(
            float(i),
            peaks() if chance.random() < 0.9 else None,
            picture=f"{chance.getrandbits(256):064x}",
        )
        for i in range(chance.randint(1, 30))
    ]


def judge(db: Database, number: int, policy: Policy, **changes: Any) -> tuple[str, Any]:
    """An item that goes all the way, and what any other policy says of it."""
    chance = random.Random(number)
    medium = NewMedia(f"{number:064x}", 9, "jpeg", f"default/{number}")
    kind = "video" if number % 3 == 0 else "image"
    values = {"media": NewMedia(medium.sha256, 9, "x", medium.blob_key, kind=kind)}
    found = submit(db, new_item(number, policy=policy, **(values | changes)), now=at(number))
    claim = jobs.claim(db, found.job_id, "w", 30.0, now=at(number))
    assert claim is not None
    if kind == "image":
        media = picture(chance)
        failed = chance.randint(0, 9) // 9
        info = MediaInfo("jpeg", 9, 9, 1 + failed, 1, 9, frames_failed=failed)
        coverage = coverage_of(DecodedImage(info, {}, media.views))

        def say(other: Policy) -> Any:
            return decide(summarise(media), other, coverage)

        analysis = Analysis(say(policy), summarise(media), coverage, None, media, None, {})
        packed, _, _ = pack(analysis, MODELS)
    else:
        frames = film(chance)

        def say(other: Policy) -> Any:
            return aggregate(frames, other, duration_s=30, frames_total=99, gap_s=3.0).outcome

        timeline = aggregate(frames, policy, duration_s=30, frames_total=99, gap_s=3.0)
        packed = pack_film(
            [(one.time_s, one.peaks, one.picture) for one in frames],
            MODELS,
            complete=timeline.coverage.complete,
            gap_s=3.0,
        )
        analysis = Analysis(
            timeline.outcome, timeline.peaks, timeline.coverage, None, None, None, {}
        )
    verdict = to_verdict(analysis, id=claim.item_id, policy=policy, models=MODELS, device="x")
    assert jobs.finish(db, claim, Finished(verdict, packed), now=at(number))
    return found.item_id, say


def compare(db: Database, then: Policy = STRICT, **options: Any) -> Comparison:
    return judged.compare(db, "default", NOW_RULES, then, **({"last": 1000} | options))


def test_what_would_change_is_what_a_real_decision_says(db: Database) -> None:
    made = [judge(db, number, NOW_RULES) for number in range(120)]
    told = compare(db)
    now = [say(NOW_RULES).decision for _, say in made]
    then = [say(STRICT).decision for _, say in made]
    assert told.considered == told.checked == told.alike == 120
    assert {d: n for d, n in told.counts_now.items() if n} == Counter(now)
    assert {d: n for d, n in told.counts_then.items() if n} == Counter(then)
    pairs = Counter(zip(now, then, strict=True))
    assert told.moves == {way: n for way, n in pairs.items() if way[0] is not way[1]}
    assert told.changed > 20
    by_id = dict(made)
    assert told.examples
    for one in told.examples:
        say = by_id[one.item_id]
        assert (one.now, one.then) == (say(NOW_RULES).decision, say(STRICT).decision)
        if one.label is not None:
            assert one.label in {r.label for p in (NOW_RULES, STRICT) for r in say(p).reasons}
    for shift in told.labels:
        for count, policy in ((shift.now, NOW_RULES), (shift.then, STRICT)):
            named = [r.label for _, say in made for r in say(policy).reasons]
            assert count == named.count(shift.label)
    same = compare(db, NOW_RULES)
    assert (same.changed, same.considered, same.examples) == (0, 120, ())


def test_the_newest_and_those_since_alone(db: Database) -> None:
    made = [judge(db, number, NOW_RULES) for number in range(1, 12)]
    say = [say for _, say in made]
    told = compare(db, last=5)
    assert told.considered == 5
    wanted = Counter(one(STRICT).decision for one in say[-5:])
    assert {d: n for d, n in told.counts_then.items() if n} == wanted
    assert compare(db, since=at(9)).considered == 3


def test_all_versions_of_a_policy_count_and_no_other(db: Database) -> None:
    judge(db, 1, NOW_RULES)
    judge(db, 2, STRICT.model_copy(update={"version": 3}))
    judge(db, 4, NOW_RULES.model_copy(update={"id": "default_2"}))
    judge(db, 5, NOW_RULES.model_copy(update={"id": "defaultx2"}))
    told = compare(db)
    assert (told.considered, told.checked, told.alike) == (2, 1, 1)
    wide = NOW_RULES.model_copy(update={"id": "default_2"})
    assert judged.compare(db, "default", wide, STRICT, last=9).considered == 1
    assert judged.compare(db, "elsewhere", NOW_RULES, STRICT, last=9).considered == 0


def test_what_cannot_be_decided_again_is_counted(db: Database) -> None:
    judge(db, 1, NOW_RULES)
    submit(db, new_item("waits", policy=NOW_RULES), now=at(50))
    old, _ = judge(db, 2, NOW_RULES)
    live, _ = judge(db, 4, NOW_RULES)
    listed = submit(db, new_item("listed", policy=NOW_RULES), now=at(51))
    claim = jobs.claim(db, listed.job_id, "w", 30.0, now=at(51))
    assert claim is not None
    by_list = failure(NOW_RULES, Problem(title="x", status=422, code="x"))
    verdict = to_verdict(by_list, id=claim.item_id, policy=NOW_RULES, models=(), device=None)
    verdict = verdict.model_copy(update={"decided_by": "list"})
    assert jobs.finish(db, claim, Finished(verdict), now=at(51))
    with db.begin() as connection:
        job_id = connection.execute(select(item.c.job_id).where(item.c.id == old)).scalar_one()
        connection.execute(scores.update().where(scores.c.job_id == job_id).values(complete=None))
        connection.execute(item.update().where(item.c.id == live).values(stream_id="stream_1"))
    told = compare(db)
    assert told.considered == 1
    assert told.left_out == {
        LeftOut.PENDING: 1,
        LeftOut.UNSCORED: 1,
        LeftOut.LIVE: 1,
        LeftOut.LISTED: 1,
    }


def test_what_could_not_be_analysed_follows_on_failure(db: Database) -> None:
    found = submit(db, new_item("broken", policy=NOW_RULES), now=NOW)
    claim = jobs.claim(db, found.job_id, "w", 30.0, now=NOW)
    assert claim is not None
    problem = problem_of(InputError("cannot be read", code="media_corrupt"))
    verdict = to_verdict(
        failure(NOW_RULES, problem), id=claim.item_id, policy=NOW_RULES, models=(), device=None
    )
    assert jobs.finish(db, claim, Finished(verdict), now=NOW)
    closed = NOW_RULES.model_copy(update={"on_failure": Decision.BLOCK})
    told = compare(db, closed)
    assert decide_failure(closed, problem).decision is Decision.BLOCK
    assert told.moves == {(Decision.REVIEW, Decision.BLOCK): 1}
    (one,) = told.examples
    assert (one.item_id, one.label) == (found.item_id, None)


def test_what_failed_is_not_judged_by_the_scores_of_the_same_bytes(db: Database) -> None:
    closed = NOW_RULES.model_copy(update={"on_failure": Decision.BLOCK})
    for number in range(1, 9):
        _, say = judge(db, number, NOW_RULES)
        if say(closed).decision is not Decision.BLOCK:
            break
    else:
        raise AssertionError("all would be blocked by their scores")
    media = NewMedia(f"{number:064x}", 9, "x", f"default/{number}")
    again = submit(db, new_item(number, policy=closed, media=media), now=at(60))
    jobs.cancel(db, "default", again.job_id, now=at(61))
    assert items.get_item(db, "default", again.item_id).verdict is not None
    told = judged.compare(db, "default", closed, STRICT, last=1)
    assert (told.checked, told.alike, told.counts_now[Decision.BLOCK]) == (1, 1, 1)


def test_against_what_people_decided(db: Database) -> None:
    made = [judge(db, number, NOW_RULES) for number in range(60)]
    chance = random.Random(1)
    people = {}
    for item_id, _ in made[::2]:
        action = chance.choice([Action.PASS, Action.BLOCK])
        choice = Choice(action, PORN if action is Action.BLOCK else None)
        decisions.decide(db, "default", "user_mei", item_id, choice, now=at(99))
        people[item_id] = Decision(action.value)
    told = compare(db)
    for side, policy in ((told.people_now, NOW_RULES), (told.people_then, STRICT)):
        said = [(say(policy).decision, people[one]) for one, say in made if one in people]
        assert side.reviewed == 30
        assert side.flagged == sum(d is not Decision.PASS for d, _ in said)
        right = [p is Decision.BLOCK for d, p in said if d is not Decision.PASS]
        assert (side.flagged_right, side.precision) == (sum(right), sum(right) / len(right))
        blocks = [p is Decision.BLOCK for d, p in said if d is Decision.BLOCK]
        assert (side.blocked, side.blocked_right) == (len(blocks), sum(blocks))
        assert side.missed == said.count((Decision.PASS, Decision.BLOCK))


def test_the_same_bytes_again_have_the_scores_of_their_analysis(db: Database) -> None:
    item_id, say = judge(db, 7, NOW_RULES)
    again = submit(
        db,
        new_item(7, policy=NOW_RULES, media=NewMedia(f"{7:064x}", 9, "x", "default/7")),
        dedupe_models=MODELS,
        now=at(60),
    )
    assert again.item_id != item_id
    assert again.verdict is not None
    told = compare(db)
    assert (told.considered, told.checked, told.alike) == (2, 2, 2)
    assert told.counts_then[say(STRICT).decision] == 2
