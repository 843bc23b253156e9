"""Closed-loop HTTP load on loopback: N clients, each with one request in flight.

Run as a program of its own, so that the clients' work does not sit inside the measuring
process; prints one JSON object. Bounded by a number of requests and by a deadline.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles

KEY_VARIABLE = "BENCH_KEY"


@dataclass(frozen=True, slots=True)
class Load:
    """clients; requests answered 200; failures by kind; seconds; rates and milliseconds."""

    clients: int
    answered: int
    failures: dict[str, int]
    seconds: float
    per_second: float
    p50_ms: float
    p95_ms: float


def drive(
    port: int, key: str, bodies: list[bytes], *, clients: int, requests: int, limit_s: float
) -> Load:
    """POST `requests` pictures with `clients` clients to 127.0.0.1; stops at `limit_s`."""
    lock = threading.Lock()
    taken = 0
    times: list[float] = []
    failures: dict[str, int] = {}
    end = time.monotonic() + limit_s

    def one_client() -> None:
        nonlocal taken
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/jpeg"}
        while time.monotonic() < end:
            with lock:
                if taken >= requests:
                    break
                number, taken = taken, taken + 1
            started = time.perf_counter()
            try:
                body = bodies[number % len(bodies)]
                connection.request("POST", "/v1/images?dedupe=false&wait=60", body, headers)
                response = connection.getresponse()
                answer = response.read()
                kind = None if response.status == 200 else f"HTTP {response.status}"
                if kind is None and json.loads(answer)["status"] != "done":
                    kind = "verdict failed"
            except OSError as error:
                connection.close()
                kind = type(error).__name__
            took = time.perf_counter() - started
            with lock:
                if kind is None:
                    times.append(took)
                else:
                    failures[kind] = failures.get(kind, 0) + 1
        connection.close()

    threads = [threading.Thread(target=one_client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    cuts = quantiles(times, n=20) if len(times) > 1 else [0.0] * 19
    return Load(
        clients=clients,
        answered=len(times),
        failures=failures,
        seconds=round(seconds, 2),
        per_second=round(len(times) / seconds, 2),
        p50_ms=round(cuts[9] * 1000, 1),
        p95_ms=round(cuts[18] * 1000, 1),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--photos", type=Path, required=True, help="folder of *.jpg")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--limit-s", type=float, default=60.0)
    args = parser.parse_args()
    bodies = [path.read_bytes() for path in sorted(args.photos.glob("*.jpg"))]
    if not bodies:
        parser.error(f"no *.jpg in {args.photos}")
    load = drive(
        args.port,
        os.environ[KEY_VARIABLE],
        bodies,
        clients=args.clients,
        requests=args.requests,
        limit_s=args.limit_s,
    )
    sys.stdout.write(json.dumps(asdict(load)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
