"""Why a reader's program ended, told from its exit code and its words. Pure.

ffmpeg's words name the address with its credentials, and whatever the server said: they stay here.
What goes on is a reason, and a sentence of our own for it.
"""

from __future__ import annotations

import re
from enum import StrEnum


class EndReason(StrEnum):
    """OVER: the connection was closed in order: on purpose, or because the server was killed.
    FINISHED: the source said that nothing more comes (the end mark of a playlist); told by who
    reads playlists, not by ffmpeg. AUTH: it wants other credentials. MISSING: no such stream, or
    not yet. UNREACHABLE: nobody answers there. FORBIDDEN: our own rules refuse the address; told
    by who checks them. UNUSABLE: it sends no video that can be read. BROKEN: anything else."""

    OVER = "over"
    FINISHED = "finished"
    AUTH = "auth"
    MISSING = "missing"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"
    UNUSABLE = "unusable"
    BROKEN = "broken"

    @property
    def sentence(self) -> str:
        """For people; it quotes nobody."""
        return _SENTENCES[self]


_SENTENCES = {
    EndReason.OVER: "the source closed the stream",
    EndReason.FINISHED: "the source said that the stream is finished",
    EndReason.AUTH: "the source refused the credentials",
    EndReason.MISSING: "the source has no such stream",
    EndReason.UNREACHABLE: "the source cannot be reached",
    EndReason.FORBIDDEN: "the address may not be read",
    EndReason.UNUSABLE: "the source sends no video that can be read",
    EndReason.BROKEN: "the connection to the source broke",
}

# In this order: a refusal is followed by words that sound like a broken connection.
_WORDS = (
    (
        EndReason.AUTH,
        r"\b40[13] \(?(unauthorized|forbidden)|authorization failed|access denied|BADSECRET"
        r"|incorrect passphrase|authmod=|NetConnection\.Connect\.Rejected.*auth",
    ),
    (EndReason.MISSING, r"404 \(?not found|StreamNotFound|Play\.Failed|session not found"),
    (
        EndReason.UNREACHABLE,
        r"connection refused|no route to host|network is unreachable|connection timed out"
        r"|failed to resolve|name or service not known|connection to \S+ failed",
    ),
    (
        EndReason.UNUSABLE,
        r"matches no streams|does not contain any stream|could not find codec parameters"
        r"|invalid data found when processing input|decoder .* not found|no decoder",
    ),
)
_COMPILED = tuple((reason, re.compile(words, re.IGNORECASE)) for reason, words in _WORDS)
_ERROR = re.compile(r"error (during|opening|submitting|writing)|i/o error|broken pipe", re.I)


def end_reason(code: int, words: str, *, frames: int) -> EndReason:
    """Why it ended. code: as of `MediaProcess.finish`, negative for a signal; words: the last of
    its standard error. frames: how many it gave.

    A code of 0 is no proof: ffmpeg gives it after a server died, but then says so. Words on how a
    connection was opened count only where no frame came.
    """
    if frames > 0:
        return EndReason.OVER if code == 0 and not _ERROR.search(words) else EndReason.BROKEN
    for reason, pattern in _COMPILED:
        if pattern.search(words):
            return reason
    return EndReason.OVER if code == 0 and not _ERROR.search(words) else EndReason.BROKEN
