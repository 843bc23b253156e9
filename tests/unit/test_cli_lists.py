"""`moderation lists`: files of hashes on their way to a list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from moderation.cli import lists as command
from moderation.cli import main
from moderation.known import BankKind, MatchKind
from moderation.store import list_entries, lists
from moderation.store.engine import Database, open_database
from moderation.store.list_records import BankRow, EntryRow, NewBank
from moderation.types import Decision
from tests.fakes.databases import migrated

A, B, C = "ab" * 32, "cd" * 32, "ef" * 32


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("MODERATION_HOME", str(tmp_path / "home"))
    found = open_database(migrated(f"sqlite:///{tmp_path / 'home' / 'moderation.db'}"))
    yield found
    found.close()


@pytest.fixture
def bank(db: Database) -> BankRow:
    return made(db, "known")


def made(db: Database, name: str, tenant: str = "default", label: str = "violence.gore") -> BankRow:
    new = NewBank(name, BankKind.BLOCK, Decision.BLOCK, label)
    return lists.create_bank(db, tenant, new, actor="key_1")


def entries(db: Database, bank: BankRow) -> dict[str, EntryRow]:
    page = list_entries.entries_of(db, bank.tenant, bank.id, limit=1000)
    return {one.value: one for one in page.entries}


def told(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> Any:
    assert main(["lists", *map(str, args), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_csv_by_name_and_once_more_by_id(
    db: Database, bank: BankRow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hashes.csv"
    file.write_text(f"value,note\n{A},seen\n{B}\n")
    first = told(capsys, "import", file, "--list", "known", "--match", "sha256")
    assert first == {
        "list": bank.id,
        "name": "known",
        "accepted": 2,
        "duplicates": 0,
        "refused_total": 0,
        "refused": [],
    }
    again = told(capsys, "import", file, "--list", bank.id, "--match", "sha256")
    assert (again["accepted"], again["duplicates"]) == (0, 2)
    found = entries(db, bank)
    assert set(found) == {A, B}
    row = found[A]
    assert (row.match, row.note, row.source, row.created_by, row.expires) == (
        MatchKind.SHA256,
        "seen",
        "import",
        "system",
        None,
    )


def test_threat_exchange_tells_itself_what_its_hashes_are(
    db: Database, bank: BankRow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "exchange"
    things = [
        {"indicator": A, "type": "HASH_PDQ", "quality": 90},
        {"indicator": B, "type": "HASH_SHA256"},
        {"indicator": C, "type": "HASH_MD5"},
    ]
    file.write_text("\ufeff\n " + json.dumps({"data": things}))
    before = datetime.now(UTC)
    done = told(capsys, "import", file, "--list", "known", "--expires-days", "7", code=1)
    assert (done["accepted"], done["refused_total"]) == (2, 1)
    assert done["refused"][0]["line"] == 3
    found = entries(db, bank)
    assert {value: row.match for value, row in found.items()} == {
        A: MatchKind.PDQ,
        B: MatchKind.SHA256,
    }
    ends = found[A].expires
    assert ends is not None
    assert timedelta(0) <= ends - before - timedelta(days=7) < timedelta(minutes=5)


def test_what_cannot_be_used_is_told_line_by_line(
    db: Database, bank: BankRow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hashes.csv"
    file.write_text(f"{A}\n" + "short\n" * 25)
    assert main(["lists", "import", str(file), "--list", "known"]) == 1
    said = capsys.readouterr()
    assert said.out == "known: 1 added, 0 there already, 25 not usable\n"
    lines = said.err.splitlines()
    assert lines[0].startswith("line 2: ")
    assert lines[-1] == "and 5 lines more"
    assert len(lines) == command.SHOWN + 1
    assert set(entries(db, bank)) == {A}


def test_a_large_file_comes_in_parts_and_says_how_far_it_is(
    db: Database,
    bank: BankRow,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lists, "BATCH", 4)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(command, "progress", lambda _, done, total: seen.append((done, total)))
    file = tmp_path / "hashes.csv"
    file.write_text("".join(f"{n % 9:064x}\n" for n in range(10)))
    done = told(capsys, "import", file, "--list", "known")
    assert (done["accepted"], done["duplicates"]) == (9, 1)
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert lists.get_bank(db, "default", bank.id).entries == 9


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("{tmp}/hashes.csv", "--list", "other"), "no list other"),
        (("{tmp}/hashes.csv", "--list", "bank_" + "0" * 32), "There is no list bank_"),
        (("{tmp}/hashes.csv", "--list", "known", "--tenant", "shop"), "Tenant shop has no list"),
        (("{tmp}/hashes.csv", "--list", "known", "--match", "md5"), "pdq or sha256"),
        (("{tmp}/hashes.csv", "--list", "known", "--expires-days", "0"), "1 to 3650 days"),
        (("{tmp}/hashes.csv",), "--list"),
        (("{tmp}/none.csv", "--list", "known"), "none.csv"),
        (("{tmp}", "--list", "known"), "cannot read"),
        (("{tmp}/picture", "--list", "known"), "UTF-8"),
        (("{tmp}/broken.json", "--list", "known"), "not JSON"),
    ],
)
def test_what_cannot_be_is_one_line_and_2(
    db: Database,
    bank: BankRow,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    words: str,
) -> None:
    (tmp_path / "hashes.csv").write_text(f"{A}\n")
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "broken.json").write_text('{"data": [')
    assert main(["lists", "import", *(one.format(tmp=tmp_path) for one in args)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert words in said.err
    assert entries(db, bank) == {}


def test_lists_of_a_tenant(db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = made(db, "known"), made(db, "a\x1b[1m")
    made(db, "foreign", tenant="shop")
    rows = told(capsys, "list")
    assert [row["id"] for row in rows] == [second.id, first.id]
    assert (rows[1]["name"], rows[1]["decision"], rows[1]["entries"]) == ("known", "block", 0)
    assert main(["lists", "list"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said.splitlines()[2].split("\t") == [
        first.id,
        "known",
        "block",
        "violence.gore",
        "31",
        "0",
        "in use",
    ]
    assert main(["lists", "list", "--tenant", "shop"]) == 0
    assert "foreign" in capsys.readouterr().out
