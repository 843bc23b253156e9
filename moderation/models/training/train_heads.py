"""Train the scene heads: one command from the archives to weights/scene-heads.

    MODERATION_DATASET_DIR=… python -m moderation.models.training.train_heads

Prints the figures on left-out sources as JSON lines, and the digest of what it wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.progress import Progress as Bar

from moderation.errors import ModerationError
from moderation.models.training.pipeline import TrainResult, train_heads
from moderation.settings import load_settings


def report(result: TrainResult) -> list[str]:
    """Lines of JSON: figures per left-out source, and per head."""
    lines = [json.dumps(row) for row in result.rows()]
    for trained in result.heads:
        lines.append(
            json.dumps(
                {
                    "label": trained.task.label,
                    "trained_on": trained.trained_on,
                    "pooled_auc": round(trained.pooled_auc, 4),
                    "ece_at_equal_prevalence": round(trained.calibration_error, 4),
                }
            )
        )
    return lines


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 1 with one line of what is missing."""
    parser = argparse.ArgumentParser(description="train the scene heads")
    parser.add_argument("--out", type=Path, default=None, help="default: weights/scene-heads")
    out: Path | None = parser.parse_args(argv).out
    try:
        with Bar() as bar:
            jobs = {}

            def tell(what: str, done: int, of: int) -> None:
                if what not in jobs:
                    jobs[what] = bar.add_task(what, total=of)
                bar.update(jobs[what], completed=done)

            result = train_heads(load_settings(), out=out, progress=tell)
    except ModerationError as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        return 1
    for line in report(result):
        print(line)  # noqa: T201
    print(f"heads.npz: {result.size} bytes, sha256 {result.sha256}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
