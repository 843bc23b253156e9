"""An item tells which other submissions show the same film."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from moderation.store import items
from moderation.store.fingerprints import remember
from tests.fakes.gateway import png, running


@dataclass(frozen=True)
class Frame:
    time_s: float
    pdq: str
    quality: int = 90


def test_copies_of_an_item_are_shown_with_their_decision(tmp_path: Path) -> None:
    random = Random(1)
    film = [Frame(float(second), f"{random.getrandbits(256):064x}") for second in range(8)]
    now = datetime.now(UTC)
    with running(tmp_path / "home") as gate:
        made = [gate.post(png(shade=shade)).json()["id"] for shade in (1, 2, 3)]
        for item_id, frames in zip(made, (film, film[:6], []), strict=True):
            media_id = items.get_item(gate.stack.db, "default", item_id).media_id
            with gate.stack.db.begin() as connection:
                remember(connection, "default", media_id, 8.0, frames, now)
        shown = [gate.client.get(f"/v1/items/{item_id}").json()["similar"] for item_id in made]
        listed = gate.client.get("/v1/items").json()["items"]
    assert shown == [
        [{"item_id": made[1], "share": 0.75, "decision": "pass"}],
        [{"item_id": made[0], "share": 0.75, "decision": "pass"}],
        [],
    ]
    assert all("similar" not in item for item in listed)
