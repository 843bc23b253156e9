"""How long it takes to find what is near to a PDQ hash among many.

    python -m benchmarks.lists [--lookups N]

Half of the hashes that are looked up are 0 to 31 bits away from one in the list, half are near to
none. Hashes are random, and once more of four bits alone in every word, as those of pictures that
resemble each other would be. Memory alone is measured; a hit costs a query of the database beside
it. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from moderation.hash_index import BYTES, MAX_DISTANCE, HashIndex

SIZES = (1_000, 100_000, 1_000_000)
MASKS = {"random": 0xFF, "alike": 0x33}


def run(lookups: int) -> Iterator[str]:
    """The lines of the table."""
    yield f"{lookups} lookups each, distance {MAX_DISTANCE}, {machine()}"
    yield ""
    yield "| entries | hashes | built in ms | all compared, µs | lookup, µs: median | 99 % |"
    yield "|---|---|---|---|---|---|"
    rng = np.random.default_rng(1)
    for size in SIZES:
        for name, mask in MASKS.items():
            hashes = rng.integers(0, 256, (size, BYTES), np.uint8) & np.uint8(mask)
            began = time.perf_counter()
            index = HashIndex(hashes.tobytes())
            built_ms = (time.perf_counter() - began) * 1000
            wanted = _wanted(rng, hashes, lookups)
            slow_us = np.median(_linear_us(hashes, wanted[:20]))
            took_us = np.array([_lookup_us(index, pdq) for pdq in wanted])
            median, high = np.quantile(took_us, (0.5, 0.99))
            told = f"{built_ms:.0f} | {slow_us:.0f} | {median:.0f} | {high:.0f}"
            yield f"| {size:,} | {name} | {told} |"


def _wanted(rng: np.random.Generator, hashes: NDArray[np.uint8], lookups: int) -> list[bytes]:
    found = []
    for number in range(lookups):
        if number % 2:
            found.append(rng.bytes(BYTES))
            continue
        bits = np.unpackbits(hashes[rng.integers(len(hashes))])
        bits[rng.permutation(bits.size)[: rng.integers(MAX_DISTANCE + 1)]] ^= 1
        found.append(np.packbits(bits).tobytes())
    return found


def _lookup_us(index: HashIndex, pdq: bytes) -> float:
    began = time.perf_counter()
    index.within(pdq)
    return (time.perf_counter() - began) * 1e6


def _linear_us(hashes: NDArray[np.uint8], wanted: Sequence[bytes]) -> list[float]:
    words = hashes.view(np.uint64)
    took = []
    for pdq in wanted:
        began = time.perf_counter()
        bits = np.bitwise_count(words ^ np.frombuffer(pdq, np.uint64)).sum(axis=1, dtype=np.uint16)
        np.flatnonzero(bits <= MAX_DISTANCE)
        took.append((time.perf_counter() - began) * 1e6)
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lookups", type=int, default=1000)
    args = parser.parse_args()
    for line in run(args.lookups):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
