"""Why a reader ended: words that ffmpeg n9.0 really said."""

from __future__ import annotations

import pytest

from moderation.live.ends import EndReason, end_reason

SECRET = "hunter2"
TOLD = [
    (
        EndReason.AUTH,
        "[in#0 @ 0x5580] Error opening input: Server returned 401 Unauthorized (authorization "
        f"failed)\nError opening input file http://me:{SECRET}@127.0.0.1:23712/401.",
    ),
    (
        EndReason.AUTH,
        "[in#0 @ 0x558b] method DESCRIBE failed: 401 (Unauthorized)\n[in#0 @ 0x558b] Error "
        "opening input: Server returned 401 Unauthorized (authorization failed)",
    ),
    (
        EndReason.AUTH,
        "Error opening input: Server returned 403 Forbidden (access denied)",
    ),
    (
        EndReason.AUTH,
        "SRT.cn: processConnectResponse: rejecting per reception of a rejection HS response: "
        "ERROR:BADSECRET\n[srt @ 0x5623] Connection to srt://127.0.0.1:23714?passphrase=9999 "
        "failed: Input/output error\n[in#0 @ 0x5623] Error opening input: Input/output error",
    ),
    (EndReason.MISSING, "[in#0 @ 0x563f] Error opening input: Server returned 404 Not Found"),
    (
        EndReason.UNREACHABLE,
        "[tcp @ 0x5577] Connection to tcp://127.0.0.1:23799 failed: Connection refused\n"
        "[in#0 @ 0x5577] Error opening input: Connection refused",
    ),
    (
        EndReason.UNREACHABLE,
        "[srt @ 0x5630] Connection to srt://127.0.0.1:23799 failed: Input/output error",
    ),
    (
        EndReason.UNUSABLE,
        "Stream map '0:v:0' matches no streams.\nError opening output files: Invalid argument",
    ),
    (EndReason.BROKEN, "Error opening input: Server returned 5XX Server Error reply"),
]


@pytest.mark.parametrize(("reason", "words"), TOLD)
def test_words_before_the_first_frame(reason: EndReason, words: str) -> None:
    assert end_reason(8, words, frames=0) is reason
    assert SECRET not in reason.sentence


def test_a_code_of_0_is_no_proof() -> None:
    died = "[in#0/mpegts @ 0x561c] Error during demuxing: Input/output error"
    assert end_reason(0, died, frames=20) is EndReason.BROKEN
    assert end_reason(0, "", frames=20) is EndReason.OVER
    assert end_reason(-9, "", frames=20) is EndReason.BROKEN
    assert end_reason(0, "", frames=0) is EndReason.OVER


def test_a_refusal_in_mid_stream_is_a_broken_connection() -> None:
    words = "[hls @ 0x1] HTTP error 403 Forbidden\nError during demuxing: Server returned 403"
    assert end_reason(251, words, frames=20) is EndReason.BROKEN


def test_every_reason_has_its_sentence() -> None:
    assert len({reason.sentence for reason in EndReason}) == len(EndReason)
