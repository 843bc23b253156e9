from __future__ import annotations

from pathlib import Path

import pytest

from moderation.errors import ConfigError
from moderation.settings import load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("MODERATION_"):
            monkeypatch.delenv(name)


def test_embedded_defaults_lie_inside_home(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert settings.database == f"sqlite:///{tmp_path}/moderation.db"
    assert settings.blobs == f"file://{tmp_path}/media"
    assert str(settings.host) == "127.0.0.1"
    assert not settings.fetch_enabled


def test_broker_is_spelt_for_kombu_and_for_redis(tmp_path: Path) -> None:
    embedded = load_settings(home=tmp_path)
    assert embedded.broker.startswith("redis+socket:///")
    assert embedded.redis == embedded.broker.replace("redis+socket", "unix")
    fleet = load_settings(broker_url="redis://r:6379/0")
    assert fleet.broker == fleet.redis == "redis://r:6379/0"


def test_option_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "moderation.toml"
    file.write_text("port = 1\nhost = 'file'\nprecision = 'bf16'\n")
    monkeypatch.setenv("MODERATION_CONFIG", str(file))
    monkeypatch.setenv("MODERATION_PORT", "2")
    monkeypatch.setenv("MODERATION_HOST", "")
    settings = load_settings(precision="int8")
    assert (settings.port, settings.host, settings.precision) == (2, "file", "int8")


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATION_FETCH_ALLOW", "10.0.0.0/8, cam.local,")
    monkeypatch.setenv("MODERATION_WEBHOOK_SECRETS", "whsec_a,whsec_b")
    settings = load_settings()
    assert settings.fetch_allow == ("10.0.0.0/8", "cam.local")
    assert [s.get_secret_value() for s in settings.webhook_secrets] == ["whsec_a", "whsec_b"]
    assert "whsec_a" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "prot"),
        ("port = 70000", "port"),
        ("port =", "cannot read"),
        ("home = 3", "home"),
        ("broker_url = 'sesame'", "broker_url.*redis://"),
        ("broker_url = 'http://h'", "broker_url.*redis://"),
        ("broker_url = 'redis://:sesame/x@h:1/0'", "broker_url.*redis://"),
        ("fetch_allow = '10.0.0.0/99'", "fetch_allow.*10.0.0.0/99"),
        ("fetch_allow = 'localhost:8080'", "fetch_allow.*localhost:8080"),
        ("fetch_allow = 'http://cam.local'", "fetch_allow.*cam.local"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(file)
    assert "\n" not in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read settings file"):
        load_settings(file)


@pytest.mark.parametrize("entry", ["127.0.0.1", "::1", "fd00::/8", "10.0.0.1/8", "cam_1.local."])
def test_what_fetches_may_reach(entry: str) -> None:
    assert load_settings(fetch_allow=entry).fetch_allow == (entry,)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read settings file"):
        load_settings(tmp_path / "none.toml")
