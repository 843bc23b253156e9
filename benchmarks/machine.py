"""One line about the machine, printed above every table."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path


def machine() -> str:
    """Processor, cores, system and date (UTC)."""
    model = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags")).split()
        model += "".join(f" {f}" for f in ("avx512_bf16", "avx512_vnni", "amx_int8") if f in flags)
    except (OSError, StopIteration):
        pass  # not Linux, or an architecture that reports no such line: the name must do
    today = datetime.now(UTC).date()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, {today}"
