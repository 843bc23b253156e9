"""What a stream's reader does next: the three faults, back-off, ends; and what always holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.live.ends import EndReason
from moderation.live.picture import Meaningless
from moderation.live.watchdog import (
    Changed,
    Event,
    FrameCame,
    Kill,
    Limits,
    Output,
    ProcessEnded,
    Start,
    Tick,
    Watch,
    advance,
    begin,
    delay,
    stop,
)
from moderation.types import StreamState as S

LIMITS = Limits()


@dataclass
class Driven:
    """A watch with everything it said; the chance is the highest, so that delays are whole."""

    limits: Limits = LIMITS
    chance: float = 1.0
    watch: Watch = field(init=False)
    outputs: list[Output] = field(init=False)

    def __post_init__(self) -> None:
        self.watch, said = begin(0.0)
        self.outputs = list(said)

    def __call__(self, event: Event) -> tuple[Output, ...]:
        self.watch, said = advance(self.watch, event, self.limits, self.chance)
        self.outputs += said
        return said

    def frame(self, now: float, bad: Meaningless | None = None) -> tuple[Output, ...]:
        return self(FrameCame(self.watch.attempt, now, bad))

    def end(self, now: float, reason: EndReason) -> tuple[Output, ...]:
        return self(ProcessEnded(self.watch.attempt, now, reason))

    def run(self, start: float, end: float, bad: Meaningless | None = None) -> None:
        """Frames once a second, and ticks twice."""
        now = start
        while now < end:
            self.frame(now, bad)
            self(Tick(now))
            self(Tick(now + 0.5))
            now += 1.0

    def quiet(self, start: float, end: float) -> None:
        now = start
        while now < end:
            self(Tick(now))
            now += 0.5

    @property
    def states(self) -> list[S]:
        return [one.state for one in self.outputs if isinstance(one, Changed)]


def live() -> Driven:
    driven = Driven()
    assert driven(Tick(0.0)) == (Start(1),)
    driven.run(1.0, 10.0)
    assert driven.states == [S.CONNECTING, S.LIVE]
    return driven


def test_a_dead_program_is_started_again_after_the_back_off() -> None:
    driven = live()
    said = driven.end(10.0, EndReason.BROKEN)
    assert said == (Changed(S.LIVE, S.RETRYING, EndReason.BROKEN.sentence, 10.0),)
    assert driven(Tick(10.9)) == ()
    assert driven(Tick(11.0))[0] == Start(2)
    driven.frame(12.0)
    assert driven.states[-3:] == [S.RETRYING, S.CONNECTING, S.LIVE]
    assert driven.watch.reconnects == 1


def test_silence_is_told_and_then_ended() -> None:
    driven = live()
    driven.quiet(10.0, 13.9)
    assert driven.states[-1] is S.LIVE
    driven.quiet(14.0, 18.9)  # the last frame came at 9
    assert driven.states[-1] is S.STALLED
    assert driven.watch.running
    assert driven(Tick(19.0))[0] == Kill(1)
    assert driven.states[-1] is S.RETRYING
    # What the killed program still says is not taken for anything.
    assert driven(ProcessEnded(1, 19.1, EndReason.AUTH)) == ()
    assert driven(Tick(20.0))[0] == Start(2)
    assert driven(FrameCame(1, 20.1)) == ()
    assert driven.watch.state is S.CONNECTING


def test_a_frame_in_time_ends_the_stall() -> None:
    driven = live()
    driven.quiet(10.0, 16.0)
    driven.frame(16.0)
    assert driven.states[-2:] == [S.STALLED, S.LIVE]
    assert not any(isinstance(one, Kill) for one in driven.outputs)


def test_a_source_that_sends_nothing_at_all_is_given_up_in_time() -> None:
    driven = Driven()
    driven(Tick(0.0))
    driven.quiet(0.5, LIMITS.connect_s)
    assert driven.states == [S.CONNECTING]
    assert driven(Tick(LIMITS.connect_s))[0] == Kill(1)
    assert driven.states[-1] is S.RETRYING


@pytest.mark.parametrize("bad", list(Meaningless))
def test_a_meaningless_picture_is_told_and_the_source_asked_once_more(bad: Meaningless) -> None:
    driven = live()
    driven.run(10.0, 10.0 + LIMITS.picture_s, bad)
    assert driven.states[-1] is S.LIVE
    driven.run(10.0 + LIMITS.picture_s, 69.0, bad)
    told = driven.outputs[-1]
    assert isinstance(told, Changed)
    assert (told.state, told.why) == (S.STALLED, f"the picture is {bad.value}")
    driven.run(69.0, 2000.0, bad)
    assert [one for one in driven.outputs if isinstance(one, Start)] == [Start(1), Start(2)]
    assert driven.states[-4:] == [S.STALLED, S.RETRYING, S.CONNECTING, S.STALLED]
    assert driven.watch.tries == 0
    driven.frame(2000.0)
    assert driven.states[-1] is S.LIVE


def test_a_still_camera_with_a_passer_by_now_and_then_is_not_asked_anew_each_time() -> None:
    driven = live()
    for minute in range(1, 50):
        driven.run(120.0 * minute, 120.0 * minute + 100.0, Meaningless.FROZEN)
        driven.run(120.0 * minute + 100.0, 120.0 * (minute + 1))
    starts = [one for one in driven.outputs if isinstance(one, Start)]
    assert len(starts) == 3  # the first, and one in an hour
    assert not driven.watch.state.over


def test_refused_credentials_end_it() -> None:
    driven = Driven()
    driven(Tick(0.0))
    driven.end(0.5, EndReason.AUTH)
    assert driven.watch.state is S.RETRYING  # a server that restarts may refuse once
    driven(Tick(5.0))
    driven.end(5.5, EndReason.AUTH)
    assert driven.watch.state is S.AUTH_FAILED
    assert driven(Tick(1000.0)) == ()


def test_a_forbidden_address_is_not_asked_twice() -> None:
    driven = Driven()
    driven(Tick(0.0))
    driven.end(0.5, EndReason.FORBIDDEN)
    assert driven.states == [S.CONNECTING, S.FAILED]


def attempts(driven: Driven, now: float, reason: EndReason | None, until: float) -> float:
    """All attempts end so; None: they give nothing and do not end. When it was over, or `until`."""
    while not driven.watch.state.over and now < until:
        now += 0.5
        driven(Tick(now))
        if driven.watch.running and reason is not None:
            driven.end(now, reason)
    return now


@pytest.mark.parametrize("reason", [EndReason.OVER, EndReason.MISSING, None])
def test_a_stream_that_its_source_no_longer_has_is_ended(reason: EndReason | None) -> None:
    driven = live()
    driven.end(10.0, EndReason.OVER)
    assert driven.watch.state is S.RETRYING
    ended = attempts(driven, 10.0, reason, 10.0 + 3 * LIMITS.ended_s)
    assert driven.watch.state is S.ENDED
    assert 10.0 + LIMITS.ended_s <= ended < 200.0 + LIMITS.ended_s


def test_a_server_that_is_gone_is_no_end() -> None:
    driven = live()
    driven.end(10.0, EndReason.OVER)  # as a server that was killed looks
    attempts(driven, 10.0, EndReason.UNREACHABLE, 3600.0)
    assert driven.watch.state in (S.RETRYING, S.CONNECTING)
    # It is back, and its publisher takes a while.
    attempts(driven, 3600.0, EndReason.MISSING, 3600.0 + LIMITS.ended_s / 2)
    assert not driven.watch.state.over
    now = 3600.0 + LIMITS.ended_s / 2
    while not driven.watch.running:
        now += 0.5
        driven(Tick(now))
    driven.frame(now)
    assert driven.watch.state is S.LIVE


def test_a_stream_that_was_never_there_is_waited_for() -> None:
    driven = Driven()
    driven(Tick(0.0))
    attempts(driven, 0.0, EndReason.MISSING, 3600.0)
    assert not driven.watch.state.over


def test_a_playlist_s_end_mark_ends_it_at_once() -> None:
    driven = live()
    driven.end(10.0, EndReason.FINISHED)
    assert driven.watch.state is S.ENDED


def test_after_too_many_attempts_it_has_failed() -> None:
    driven = Driven(Limits(max_tries=3))
    now = 0.0
    while not driven.watch.state.over:
        now += 1.0
        driven(Tick(now))
        if driven.watch.running:
            driven.end(now, EndReason.UNREACHABLE)
    assert driven.watch.state is S.FAILED
    assert [one for one in driven.outputs if isinstance(one, Start)] == [
        Start(n) for n in (1, 2, 3)
    ]


def test_frames_reset_the_back_off_whatever_they_show() -> None:
    """A card that says to wait, behind a server that closes after some minutes."""
    driven = Driven()
    now = 0.0
    for _ in range(20):
        driven.run(now, now + LIMITS.stable_s + 10, Meaningless.FROZEN)
        now += LIMITS.stable_s + 10
        assert driven.watch.tries == 0
        driven.end(now, EndReason.BROKEN)
        assert driven.watch.tries == 1
        assert driven.watch.restart_at is not None
        now = driven.watch.restart_at
        driven(Tick(now))


def test_stable_minutes_reset_the_back_off() -> None:
    driven = Driven()
    now = 0.0
    for _ in range(5):
        driven.quiet(now, now + 40.0)
        now += 40.0
        driven.end(now, EndReason.BROKEN)
    assert driven.watch.tries > 4
    driven.quiet(now, now + 70.0)
    start = now + 70.0
    driven.run(start, start + LIMITS.stable_s - 1)
    assert driven.watch.tries > 4
    driven.run(start + LIMITS.stable_s - 1, start + LIMITS.stable_s + 2)
    assert driven.watch.tries == 0


def test_told_to_stop_it_kills_and_ends() -> None:
    driven = live()
    watch, said = stop(driven.watch, 11.0)
    assert said[0] == Kill(1)
    assert (watch.state, watch.restart_at) == (S.ENDED, None)
    assert stop(watch, 12.0) == (watch, ())


chances = st.floats(0, 1)
kinds = st.one_of(
    st.just("tick"),
    st.sampled_from([None, *Meaningless]),
    st.sampled_from(list(EndReason)),
)
happenings = st.lists(
    st.tuples(st.floats(0, 40), kinds, chances, st.booleans()), min_size=1, max_size=150
)


@given(st.integers(1, 10_000), chances)
def test_the_back_off_is_bounded(tries: int, chance: float) -> None:
    found = delay(tries, LIMITS, chance)
    assert LIMITS.first_delay_s / 2 <= found <= LIMITS.longest_delay_s
    assert found <= delay(tries + 1, LIMITS, chance)


@given(happenings)
def test_what_always_holds(happened: list[tuple[float, object, float, bool]]) -> None:
    limits = Limits(max_tries=8)
    watch, said = begin(0.0)
    state: S | None = None
    running = False
    now = 0.0
    started = 0
    due: float | None = None
    for passed, kind, chance, stale in [(0.0, "tick", 0.0, False), *happened]:
        for output in said:
            if isinstance(output, Changed):
                assert output.before is state  # an unbroken chain
                assert output.state is not state
                assert output.now == now
                state = output.state
            elif isinstance(output, Start):
                assert not running  # never two programs
                assert output.attempt == started + 1
                running, started = True, output.attempt
            else:
                assert running
                assert output == Kill(started)
                running = False
        assert watch.state is state  # no change without an event
        assert watch.running is running
        # Exactly one of: a program runs, one attempt is due, or it is over.
        assert [running, watch.restart_at is not None, watch.state.over].count(True) == 1
        if watch.restart_at is not None and watch.restart_at != due and watch.attempt > 0:
            wait = watch.restart_at - now
            assert limits.first_delay_s / 2 - 1e-6 <= wait <= limits.longest_delay_s + 1e-6
        due = watch.restart_at
        now += passed
        attempt = watch.attempt - stale
        event: Event
        if kind == "tick":
            event = Tick(now)
        elif isinstance(kind, EndReason):
            event = ProcessEnded(attempt, now, kind)
            running = running and (stale or watch.attempt == 0)
        else:
            assert kind is None or isinstance(kind, Meaningless)
            event = FrameCame(attempt, now, kind)
        watch, said = advance(watch, event, limits, chance)


@given(happenings)
def test_left_alone_it_always_tries_again_or_is_over(
    happened: list[tuple[float, object, float, bool]],
) -> None:
    driven = Driven()
    now = 0.0
    for passed, kind, _, _ in happened:
        now += passed
        if isinstance(kind, EndReason):
            driven.end(now, kind)
        elif isinstance(kind, Meaningless):
            driven.frame(now, kind)
        else:
            driven(Tick(now))
    before = driven.watch.attempt
    driven.quiet(now, now + 200.0)
    assert driven.watch.state.over or driven.watch.attempt > before
