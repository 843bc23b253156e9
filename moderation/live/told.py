"""Why an attempt at a stream ended, from what ffmpeg said and what the proxy saw. Pure."""

from __future__ import annotations

from typing import Protocol

from moderation.live.ends import EndReason


class Seen(Protocol):
    """What the proxy saw (`moderation.live.proxy.Pass`)."""

    @property
    def refusal(self) -> str | None: ...

    @property
    def failure(self) -> str | None: ...

    @property
    def status(self) -> int | None: ...

    @property
    def finished(self) -> bool: ...


def ended(reason: EndReason, seen: Seen | None, *, frames: int) -> EndReason:
    """The reason, corrected by the proxy: ffmpeg has its 403 and 502 for the server's own.

    reason: as of `end_reason`. seen: None for sources without the proxy. frames: how many came.
    What the server answered counts only where none did; a password that runs out in the middle
    shows at the next attempt.
    """
    if seen is None:
        return reason
    if seen.refusal is not None and (frames == 0 or seen.failure == seen.refusal):
        return EndReason.FORBIDDEN
    if seen.failure is not None:
        return EndReason.UNREACHABLE if frames == 0 else EndReason.BROKEN
    if frames == 0 and seen.status in (401, 403):
        return EndReason.AUTH
    if frames == 0 and seen.status in (404, 410):
        return EndReason.MISSING
    if reason is EndReason.OVER and seen.finished:
        return EndReason.FINISHED
    return reason


def explained(reason: EndReason, seen: Seen | None) -> str:
    """A sentence for people: the proxy's own, where it has one for this reason, which names hosts
    of the stream but no secrets; otherwise the reason's."""
    if seen is not None:
        if reason is EndReason.FORBIDDEN and seen.refusal is not None:
            return seen.refusal
        if reason in (EndReason.UNREACHABLE, EndReason.BROKEN) and seen.failure is not None:
            return seen.failure
    return reason.sentence
