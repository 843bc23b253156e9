from __future__ import annotations

import base64
import hashlib
import json
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import ConfigError
from moderation.settings import load_settings
from moderation.tasks import webhooks

# The example of the Standard Webhooks specification and of its reference libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENT = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104 by hand: an independent computation of what the module signs with."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()


def test_the_specification_s_own_example() -> None:
    assert webhooks.sign([webhooks.parse_secret(SECRET)], EVENT, TIMESTAMP, BODY) == SIGNATURE


@given(
    st.lists(st.binary(min_size=16, max_size=64), min_size=1, max_size=3),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
    st.integers(0, 2**40),
    st.binary(),
)
def test_every_key_signs_id_time_and_body(
    keys: list[bytes], event_id: str, timestamp: int, body: bytes
) -> None:
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = [f"v1,{base64.b64encode(hmac_sha256(key, signed)).decode()}" for key in keys]
    assert webhooks.sign(keys, event_id, timestamp, body).split(" ") == expected


def test_headers_of_two_attempts_share_the_event_id() -> None:
    key = webhooks.parse_secret(SECRET)
    first = webhooks.headers([key], EVENT, "dlv_1", TIMESTAMP, BODY)
    second = webhooks.headers([key], EVENT, "dlv_2", TIMESTAMP + 5, BODY)
    assert first["webhook-id"] == second["webhook-id"] == EVENT
    assert first["webhook-delivery"] != second["webhook-delivery"]
    assert first["webhook-signature"] == SIGNATURE
    assert second["webhook-signature"] != SIGNATURE
    assert first["content-type"] == "application/json"


def test_the_body_is_plain_utf8_json() -> None:
    body = webhooks.encode_body({"type": "item.decided", "data": {"data_id": "ü"}})
    assert body == '{"type":"item.decided","data":{"data_id":"ü"}}'.encode()
    assert json.loads(body)["data"]["data_id"] == "ü"


@pytest.mark.parametrize(
    "text", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!!!", "whsec_c2hvcnQ="]
)
def test_a_bad_secret_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        webhooks.parse_secret(text)
    assert not text or text == "whsec_" or text not in str(caught.value)


def test_configured_secrets_come_newest_first(tmp_path: Path) -> None:
    older = "whsec_" + base64.b64encode(b"o" * 24).decode()
    settings = load_settings(home=tmp_path, webhook_secrets=f"{SECRET},{older}")
    keys = webhooks.load_secrets(settings)
    assert keys == (webhooks.parse_secret(SECRET), b"o" * 24)
    assert not (tmp_path / webhooks.SECRET_FILE).exists()


def test_a_secret_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "new")
    found: list[tuple[bytes, ...]] = []
    threads = [
        threading.Thread(target=lambda: found.append(webhooks.load_secrets(settings)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    file = settings.home / webhooks.SECRET_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in settings.home.iterdir()] == [webhooks.SECRET_FILE]


@given(st.floats(0, 1))
def test_retries_spread_over_at_least_a_day_and_then_end(draw: float) -> None:
    age, attempts, delays = 0.0, 0, []
    while True:
        attempts += 1
        delay = webhooks.retry_delay_s(attempts, age, draw)
        if delay is None:
            break
        delays.append(delay)
        age += delay
        assert attempts < 50
    assert age >= 24 * 3600
    assert delays == sorted(delays)
    assert 4 <= delays[0] <= 6
    assert max(delays) <= 4 * 3600 * 1.2


def test_jitter_spreads_callbacks_that_failed_together() -> None:
    delays = {webhooks.retry_delay_s(3, 20.0, draw / 10) for draw in range(11)}
    assert len(delays) == 11
    assert min(d for d in delays if d) == pytest.approx(45 * 0.8)
    assert max(d for d in delays if d) == pytest.approx(45 * 1.2)


def test_a_long_outage_of_ours_does_not_kill_a_callback() -> None:
    assert webhooks.retry_delay_s(1, 7 * 24 * 3600, 0.5) == 5.0
