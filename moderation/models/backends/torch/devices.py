"""Which device and number format a setting asks for, and what they are called."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from moderation.errors import ConfigError

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
"""A setting's word -> what the network computes in."""

_WANTED = re.compile(r"auto|cpu|cuda(:\d+)?")


def choose_device(wanted: str) -> torch.device:
    """auto: the first GPU, or the CPU where there is none. Raises ConfigError: a GPU was asked
    for by name and is not there, or the word is none of auto, cpu, cuda, cuda:N."""
    word = wanted.lower()
    if _WANTED.fullmatch(word) is None:
        raise ConfigError(f"no device {wanted!r} for torch; there are: auto, cpu, cuda, cuda:N")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if word == "cpu" or (word == "auto" and not there):
        return torch.device("cpu")
    index = int(word.partition(":")[2] or 0)
    if index >= there:
        found = f"{there} GPUs" if there else f"no GPU (torch {torch.__version__})"
        raise ConfigError(f"the device {wanted!r} is not there: torch sees {found}")
    return torch.device("cuda", index)


def choose_precision(wanted: str, device: torch.device) -> str:
    """The word of what it computes in. auto: f16 on a GPU, f32 on the CPU. Raises ConfigError
    for what torch does not do well there: f16 on the CPU is slower than f32 and less exact."""
    if wanted == "auto":
        return "f16" if device.type == "cuda" else "f32"
    if wanted not in DTYPES:
        raise ConfigError(f"the torch backend does not compute in {wanted}; use f32, bf16 or f16")
    if wanted == "f16" and device.type == "cpu":
        raise ConfigError("the torch backend computes in f16 on a GPU alone; use f32 or bf16")
    return wanted


def describe(device: torch.device) -> str:
    """`cuda:0: NVIDIA H100`, `cpu (torch): AMD EPYC`."""
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"cpu (torch): {_processor()}".strip(": ")


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # not Linux
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def compute_exactly() -> None:
    """No TF32: f32 gives the scores of every other machine, to 1e-3. For the whole process."""
    torch.backends.fp32_precision = "ieee"
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
