"""Which passes are drawn for an audit; and how sure their miss rate is."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.chance import wilson
from moderation.errors import ConfigError
from moderation.settings import load_settings
from moderation.store.misses import Missed
from moderation.tasks.lot import Lot, drawn

CONTENTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]
secrets = st.binary(min_size=16, max_size=64)
shares = st.floats(0, 1)


def divergence(rate: float, share: float) -> float:
    """Kullback-Leibler's, of two coins, in nats."""

    def part(p: float, q: float) -> float:
        if p == 0:
            return 0.0
        return p * math.log(p / q) if q else math.inf

    return part(rate, share) + part(1 - rate, 1 - share)


@settings(max_examples=20)
@given(secrets, shares)
def test_about_the_share_is_drawn(secret: bytes, share: float) -> None:
    rate = sum(drawn(secret, one, share) for one in CONTENTS) / len(CONTENTS)
    # Chernoff's bound: a fair lot goes beyond this once in 10^12 times, at a share near 0 or 1 too.
    assert len(CONTENTS) * divergence(rate, share) <= math.log(2e12)


@given(secrets, st.sampled_from(CONTENTS), shares, shares)
def test_a_larger_share_keeps_what_a_smaller_one_draws(
    secret: bytes, sha256: str, one: float, other: float
) -> None:
    less, more = sorted((one, other))
    assert drawn(secret, sha256, more) or not drawn(secret, sha256, less)
    assert drawn(secret, sha256, one) == drawn(secret, sha256, one)
    assert drawn(secret, sha256, 1.0)
    assert not drawn(secret, sha256, 0.0)


def test_another_secret_draws_others() -> None:
    one, other = ({x for x in CONTENTS if drawn(key, x, 0.5)} for key in (b"a" * 32, b"b" * 32))
    both = len(one & other) / len(CONTENTS)
    assert 0.2 < both < 0.3


def test_the_settings_say_how_many(tmp_path: Path) -> None:
    assert not Lot.from_settings(load_settings(home=tmp_path)).draws(CONTENTS[0])
    assert not (tmp_path / "sampling-secret").exists()
    told = load_settings(home=tmp_path, audit_share=0.5, sampling_secret="s")
    lot = Lot.from_settings(told)
    assert 900 < sum(lot.draws(one) for one in CONTENTS) < 1100
    assert Lot.from_settings(told) == lot
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError):
            load_settings(home=tmp_path, audit_share=share)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10**6))
def test_an_interval_has_its_rate(one: int, other: int, passes: int) -> None:
    hits, count = sorted((one, other))
    found = Missed(hits, count)
    low, high = found.interval
    assert (low, high) == wilson(hits, count)
    assert 0 <= low <= found.rate <= high <= 1
    about, least, most = found.among(passes)
    assert least <= about <= most <= passes
