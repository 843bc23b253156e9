"""What a stream's reader should do next. Pure: the clock and chance are given.

Three faults, each found by itself: the program is dead, no frame comes, the picture is meaningless
(frozen, black, colour bars). The first two end in a new attempt after a back-off. A meaningless
picture is told, and gets one new attempt: a camera that looks at a wall is no fault of the reader.

Who drives it starts and kills the program as the outputs say, and passes on what happens. Attempts
are numbered, so that the late words of a killed program are not taken for those of the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from moderation.live.ends import EndReason
from moderation.live.picture import Meaningless
from moderation.types import StreamState


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, all above 0. connect_s: from the start of an attempt to its first frame. silent_s:
    without a frame, until STALLED; patience_s: from then until a new attempt. picture_s: of a
    meaningless picture, until STALLED; picture_patience_s: from then until a new attempt, of which
    there is one in picture_again_s. first_delay_s, longest_delay_s: the back-off, which doubles.
    stable_s: LIVE for so long, and the back-off begins anew. ended_s: the source answers, and has
    no such stream any more, for so long until it counts as ENDED. auth_tries: refusals in a row
    until AUTH_FAILED; max_tries: failed attempts, none of them stable, until FAILED."""

    connect_s: float = 20.0
    silent_s: float = 5.0
    patience_s: float = 5.0
    picture_s: float = 30.0
    picture_patience_s: float = 30.0
    picture_again_s: float = 3600.0
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0
    stable_s: float = 120.0
    ended_s: float = 900.0
    auth_tries: int = 2
    max_tries: int = 480


# --- what happens -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went on. At least twice a second keeps the limits exact enough."""

    now: float


@dataclass(frozen=True, slots=True)
class FrameCame:
    """A frame of the numbered attempt. meaningless: what is wrong with its picture."""

    attempt: int
    now: float
    meaningless: Meaningless | None = None


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """The program of the numbered attempt is gone. why: a sentence for people; empty: that of the
    reason."""

    attempt: int
    now: float
    reason: EndReason
    why: str = ""


Event = Tick | FrameCame | ProcessEnded

# --- what to do -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Start the program; what it does belongs to this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the program of this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Changed:
    """The state changed: to be told as `stream.state`. why: a sentence that quotes nobody."""

    before: StreamState | None
    state: StreamState
    why: str
    now: float


Output = Start | Kill | Changed


@dataclass(frozen=True, slots=True)
class Watch:
    """Where a stream stands. Times in seconds of one clock.

    attempt: number of the last attempt, 0 before the first. running: its program should be there.
    restart_at: when the next one is due; None while one runs, and when it is over. frame_at: of the
    last frame of this attempt; frames_since: since when they come without a break. tries: failed
    attempts since it was stable. refusals: of credentials, in a row. seen: a frame came once.
    absent_since: since when the source answers without the stream. bad_since: since when the
    picture is meaningless; renewed_at: when an attempt was made for that reason.
    """

    state: StreamState
    attempt: int = 0
    running: bool = False
    restart_at: float | None = None
    started_at: float = 0.0
    frame_at: float | None = None
    frames_since: float | None = None
    tries: int = 0
    refusals: int = 0
    seen: bool = False
    absent_since: float | None = None
    bad_since: float | None = None
    renewed_at: float | None = None

    @property
    def reconnects(self) -> int:
        return max(0, self.attempt - 1)


Step = tuple[Watch, tuple[Output, ...]]


def begin(now: float) -> Step:
    """A stream that was just taken over; the first tick starts its reader."""
    state = StreamState.CONNECTING
    return Watch(state, restart_at=now), (Changed(None, state, "the source is asked", now),)


def advance(watch: Watch, event: Event, limits: Limits, chance: float) -> Step:
    """The next state and what to do now. chance: 0 to 1, drawn anew for every call: it spreads
    the attempts of many readers whose server died. Events of older attempts do nothing."""
    if watch.state.over:
        return watch, ()
    if isinstance(event, Tick):
        return _tick(watch, event.now, limits, chance)
    if not watch.running or event.attempt != watch.attempt:
        return watch, ()
    if isinstance(event, FrameCame):
        return _frame(watch, event, limits)
    return _ended(watch, event, limits, chance)


def stop(watch: Watch, now: float) -> Step:
    """The stream is no longer wanted."""
    if watch.state.over:
        return watch, ()
    return _finish(watch, StreamState.ENDED, "it was told to stop", now)


def delay(tries: int, limits: Limits, chance: float) -> float:
    """Seconds until the next attempt after `tries` failed ones (1 and up): doubled each time, up
    to `longest_delay_s`, and between half and the whole of that."""
    # Beyond 2^60 a float would be asked for more than it holds.
    whole = min(limits.longest_delay_s, limits.first_delay_s * 2.0 ** min(tries - 1, 60))
    return whole * (0.5 + 0.5 * chance)


def _tick(watch: Watch, now: float, limits: Limits, chance: float) -> Step:
    if watch.restart_at is not None:
        return _start(watch, now) if now >= watch.restart_at else (watch, ())
    if watch.frame_at is None:
        if now - watch.started_at >= limits.connect_s:
            return _absent(watch, "no frame came in time", now, limits, chance)
        return watch, ()
    silent = now - watch.frame_at
    if silent >= limits.silent_s + limits.patience_s:
        return _retry(watch, "no frame comes any more", now, limits, chance)
    if silent >= limits.silent_s:
        return _to(replace(watch, frames_since=None), StreamState.STALLED, "no frame comes", now)
    if _renewal_due(watch, now, limits):
        # Not counted as failed: frames do come.
        renewed = replace(watch, renewed_at=now, restart_at=now + limits.first_delay_s)
        return _away(renewed, "the picture stays meaningless: the source is asked anew", now)
    # Whatever the picture shows: the source is there, and gives frames.
    if watch.frames_since is not None and now - watch.frames_since >= limits.stable_s:
        return replace(watch, tries=0), ()
    return watch, ()


def _renewal_due(watch: Watch, now: float, limits: Limits) -> bool:
    if watch.state is not StreamState.STALLED or watch.bad_since is None:
        return False
    if watch.renewed_at is not None and now - watch.renewed_at < limits.picture_again_s:
        return False
    return now - watch.bad_since >= limits.picture_s + limits.picture_patience_s


def _start(watch: Watch, now: float) -> Step:
    started = replace(
        watch,
        attempt=watch.attempt + 1,
        running=True,
        restart_at=None,
        started_at=now,
        frame_at=None,
        frames_since=None,
    )
    asked, told = _to(started, StreamState.CONNECTING, "the source is asked again", now)
    return asked, (Start(started.attempt), *told)


def _frame(watch: Watch, event: FrameCame, limits: Limits) -> Step:
    now = event.now
    frames_since = now if watch.frames_since is None else watch.frames_since
    seen = replace(watch, frame_at=now, refusals=0, seen=True, absent_since=None)
    seen = replace(seen, frames_since=frames_since)
    if event.meaningless is None:
        return _to(replace(seen, bad_since=None), StreamState.LIVE, "frames come", now)
    since = now if watch.bad_since is None else watch.bad_since
    seen = replace(seen, bad_since=since)
    if now - since >= limits.picture_s:
        return _to(seen, StreamState.STALLED, f"the picture is {event.meaningless.value}", now)
    return _to(seen, StreamState.LIVE, "frames come", now)


def _ended(watch: Watch, event: ProcessEnded, limits: Limits, chance: float) -> Step:
    reason, now = event.reason, event.now
    why = event.why or reason.sentence
    gone = replace(watch, running=False)
    if reason is EndReason.FORBIDDEN:
        return _finish(gone, StreamState.FAILED, why, now)
    if reason is EndReason.FINISHED:
        return _finish(gone, StreamState.ENDED, why, now)
    if reason in (EndReason.OVER, EndReason.MISSING):
        return _absent(gone, why, now, limits, chance)
    gone = replace(gone, absent_since=None)
    if reason is EndReason.AUTH:
        gone = replace(gone, refusals=gone.refusals + 1)
        if gone.refusals >= limits.auth_tries:
            return _finish(gone, StreamState.AUTH_FAILED, why, now)
    return _retry(gone, why, now, limits, chance)


def _absent(watch: Watch, why: str, now: float, limits: Limits, chance: float) -> Step:
    """The source answers, and has no such stream. An end in order says little: a server that was
    killed looks the same. That it is back, and the stream is not, says more."""
    since = now if watch.absent_since is None else watch.absent_since
    if watch.seen and now - since >= limits.ended_s:
        return _finish(watch, StreamState.ENDED, "the source has the stream no longer", now)
    return _retry(replace(watch, absent_since=since), why, now, limits, chance)


def _retry(watch: Watch, why: str, now: float, limits: Limits, chance: float) -> Step:
    tries = watch.tries + 1
    failed = replace(watch, tries=tries)
    if tries >= limits.max_tries:
        return _finish(failed, StreamState.FAILED, f"{why}; {tries} attempts failed", now)
    return _away(replace(failed, restart_at=now + delay(tries, limits, chance)), why, now)


def _away(watch: Watch, why: str, now: float) -> Step:
    """RETRYING, with the program gone; `restart_at` is set."""
    killed: tuple[Output, ...] = (Kill(watch.attempt),) if watch.running else ()
    waiting, told = _to(replace(watch, running=False), StreamState.RETRYING, why, now)
    return waiting, (*killed, *told)


def _finish(watch: Watch, state: StreamState, why: str, now: float) -> Step:
    killed: tuple[Output, ...] = (Kill(watch.attempt),) if watch.running else ()
    done, told = _to(replace(watch, running=False, restart_at=None), state, why, now)
    return done, (*killed, *told)


def _to(watch: Watch, state: StreamState, why: str, now: float) -> Step:
    """The state, told where it is another one."""
    if watch.state is state:
        return watch, ()
    return replace(watch, state=state), (Changed(watch.state, state, why, now),)
