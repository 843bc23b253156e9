"""Ids: UUIDv7 (time-ordered, RFC 9562) in hex, with a short prefix: `item_0192…`."""

from __future__ import annotations

import os
import time
from datetime import datetime


def new_id(prefix: str) -> str:
    """A new id, sortable by its time of creation (1 ms), e.g. `new_id("item")`."""
    millis = time.time_ns() // 1_000_000
    value = (millis & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # RFC 9562 variant
    return f"{prefix}_{value:032x}"


def first_id(prefix: str, when: datetime) -> str:
    """What sorts before every id that is made from then on, and after every earlier one."""
    return f"{prefix}_{max(0, int(when.timestamp() * 1000)):012x}"
