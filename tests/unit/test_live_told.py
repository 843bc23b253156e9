"""Why an attempt ended: the proxy knows better than ffmpeg."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.live.ends import EndReason
from moderation.live.proxy import Pass
from moderation.live.told import ended, explained

WHY = "the host 'x' is not on the public internet"
SILENT = "x sent nothing for long"


@pytest.mark.parametrize(
    ("said", "seen", "frames", "told"),
    [
        # Our own 403 looks like that of a server.
        (EndReason.AUTH, Pass("", refusal=WHY, failure=WHY, status=200), 0, EndReason.FORBIDDEN),
        (EndReason.AUTH, Pass("", refusal=WHY, status=200), 0, EndReason.FORBIDDEN),
        (EndReason.BROKEN, Pass("", refusal=WHY, failure=WHY), 9, EndReason.FORBIDDEN),
        # Long ago refused, and gone on since.
        (EndReason.OVER, Pass("", refusal=WHY), 9, EndReason.OVER),
        (EndReason.OVER, Pass("", refusal=WHY, failure=SILENT), 9, EndReason.BROKEN),
        # Our own 502.
        (EndReason.BROKEN, Pass("", failure=SILENT), 0, EndReason.UNREACHABLE),
        (EndReason.OVER, Pass("", failure=SILENT), 9, EndReason.BROKEN),
        # The server's own word.
        (EndReason.BROKEN, Pass("", status=401), 0, EndReason.AUTH),
        (EndReason.BROKEN, Pass("", status=403), 0, EndReason.AUTH),
        (EndReason.BROKEN, Pass("", status=404), 0, EndReason.MISSING),
        (EndReason.BROKEN, Pass("", status=403), 9, EndReason.BROKEN),
        (EndReason.OVER, Pass("", status=200, finished=True), 9, EndReason.FINISHED),
        (EndReason.BROKEN, Pass("", status=200, finished=True), 9, EndReason.BROKEN),
        (EndReason.UNUSABLE, Pass("", status=200), 0, EndReason.UNUSABLE),
    ],
)
def test_what_is_told(said: EndReason, seen: Pass, frames: int, told: EndReason) -> None:
    assert ended(said, seen, frames=frames) is told


def test_sentences() -> None:
    seen = Pass("", refusal=WHY, failure=SILENT)
    assert explained(EndReason.FORBIDDEN, seen) == WHY
    assert explained(EndReason.UNREACHABLE, seen) == SILENT
    assert explained(EndReason.AUTH, seen) == EndReason.AUTH.sentence
    assert explained(EndReason.FORBIDDEN, None) == EndReason.FORBIDDEN.sentence
    assert explained(EndReason.BROKEN, Pass("")) == EndReason.BROKEN.sentence


@given(st.sampled_from(EndReason), st.integers(0, 3))
def test_without_the_proxy_ffmpeg_is_believed(said: EndReason, frames: int) -> None:
    assert ended(said, None, frames=frames) is said
    assert ended(said, Pass(""), frames=frames) is said
