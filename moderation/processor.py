"""What the processor of this machine can do."""

from __future__ import annotations

import platform
import re
from pathlib import Path

VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def flags() -> frozenset[str]:
    """The kernel's words for it; empty where there is no Linux to ask."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return frozenset()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(line[1].split()) if line else frozenset()


def sums_int8(machine: str | None = None, known: frozenset[str] | None = None) -> bool:
    """Whether products of 8-bit numbers are summed up exactly. x86-64 without VNNI sums pairs in 16
    bits, which run over for weights of all 8 bits; where nothing is known, it is taken to be so."""
    machine = platform.machine() if machine is None else machine
    known = flags() if known is None else known
    return machine.lower() not in ("x86_64", "amd64") or not known or bool(VNNI & known)
