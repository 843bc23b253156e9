"""One contract for both stores of frame packs: a folder, and a Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moderation.errors import ConfigError, ServiceError
from moderation.packs import FolderPacks, PackStore, chunk_of, open_packs, pack_key
from moderation.settings import load_settings
from tests import servers
from tests.contract.store_data import together
from tests.servers import free_port

KEY = pack_key("job_1a", 3)


@pytest.fixture(params=["folder", "redis"])
def packs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PackStore]:
    if request.param == "folder":
        yield open_packs((tmp_path / "some packs").as_uri())
        return
    server: servers.Redis = request.getfixturevalue("redis_server")
    store = open_packs(server.url)
    yield store
    for key in store.keys():  # noqa: SIM118 - no mapping
        store.delete(key)


def test_what_is_put_can_be_got(packs: PackStore) -> None:
    assert packs.get(KEY) is None
    data = bytes(range(256)) * 20_000
    packs.put(KEY, data)
    assert packs.get(KEY) == data
    packs.put(KEY, b"other")
    assert packs.get(KEY) == b"other"


def test_what_is_deleted_is_gone(packs: PackStore) -> None:
    packs.put(KEY, b"x")
    packs.delete(KEY)
    packs.delete(KEY)
    assert packs.get(KEY) is None
    assert packs.keys() == set()


def test_keys_name_their_chunks(packs: PackStore) -> None:
    for number in range(3):
        packs.put(pack_key("job_1a", number), b"x")
    assert {chunk_of(key) for key in packs.keys()} == {("job_1a", n) for n in range(3)}  # noqa: SIM118


def test_writers_of_one_pack_leave_a_whole_one(packs: PackStore) -> None:
    together(lambda n: packs.put(KEY, bytes([n]) * 1_000_000))
    found = packs.get(KEY)
    assert found is not None
    assert found == found[:1] * 1_000_000
    assert packs.keys() == {KEY}


@pytest.mark.parametrize("key", ["../etc.1", "job", "job.x", "job.1/2", ""])
def test_other_keys_are_refused(packs: PackStore, key: str) -> None:
    for call in (packs.get, packs.delete, lambda name: packs.put(name, b"")):
        with pytest.raises(ValueError, match="not the key"):
            call(key)


def test_a_half_written_pack_is_seen_and_can_be_deleted(tmp_path: Path) -> None:
    packs = FolderPacks(tmp_path)
    (tmp_path / f"{KEY}.part-abc").write_bytes(b"half")
    (tmp_path / "something else").write_bytes(b"not ours")
    (found,) = packs.keys()
    assert chunk_of(found) == ("job_1a", 3)
    packs.delete(found)
    assert [path.name for path in tmp_path.iterdir()] == ["something else"]


def test_a_store_that_does_not_work_is_our_fault(tmp_path: Path) -> None:
    away = open_packs(f"redis://127.0.0.1:{free_port()}/0")
    gone = FolderPacks(tmp_path / "packs")
    (tmp_path / "packs").rmdir()
    for packs in (away, gone):
        with pytest.raises(ServiceError) as caught:
            packs.put(KEY, b"x")
        assert caught.value.code == "packs_unavailable"


def test_the_folder_is_the_owners_alone(tmp_path: Path) -> None:
    FolderPacks(tmp_path / "packs")
    assert (tmp_path / "packs").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory"):
        FolderPacks(tmp_path / "file" / "packs")


def test_one_machine_uses_a_folder_and_a_fleet_its_broker(tmp_path: Path) -> None:
    assert load_settings(home=tmp_path).packs == (tmp_path / "run" / "packs").as_uri()
    fleet = load_settings(home=tmp_path, broker_url="redis://h:6379/0")
    assert fleet.packs == "redis://h:6379/0"
    assert load_settings(home=tmp_path, pack_url="file:///p").packs == "file:///p"
    with pytest.raises(ConfigError, match="pack_url"):
        open_packs("s3://bucket")
