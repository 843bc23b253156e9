"""schemathesis against a live gateway: no 5xx, no undocumented status.

On both database engines, since each refuses other values (PostgreSQL NUL, both huge numbers).
A thread ends every job through the store, so verdicts, waits and cancellations are real.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.gateway import KEY, Stack
from tests.integration.test_gateway_server import serving

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "5"))
SECONDS = 240

# Beside random bytes, some that are pictures or begin as videos do: so that verdicts come about.
HOOKS = """
import sys
import schemathesis
from hypothesis import strategies as st

sys.path.insert(0, {root!r})
from tests.fakes.gateway import png
from tests.unit.test_api_videos import film

media = st.one_of(
    st.integers(0, 5).map(lambda shade: png(shade=shade)),
    st.integers(0, 5).map(lambda seed: film(seed=seed)),
    st.binary(max_size=64),
)
schemathesis.openapi.format("binary", media)
for name in ("image/*", "video/*", "application/octet-stream", "application/offset+octet-stream"):
    schemathesis.openapi.media_type(name, media)

def endless(seconds):
    # What is no number of seconds is refused at once.
    try:
        return float(seconds) > 0
    except (TypeError, ValueError):
        return False


@schemathesis.hook
def before_call(context, case, kwargs):
    # Of events, what is there is read, and no tail.
    if case.path.endswith("/events"):
        query = dict(case.query or ())
        if endless(query.setdefault("seconds", 0)):
            query["seconds"] = 0
        case.query = query


schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
"""

# All checks but one: DELETE cancels a job and keeps its record on purpose, which
# use_after_free takes for a resource that was not deleted.
# A document cannot say which bytes are a picture, which hosts are public, that a cursor comes
# from a page, or where an upload goes on: such requests fit the schema and are refused, as
# documented. The tus protocol answers 412 to another version, and 460 to a wrong checksum.
CONFIG = """
[generation]
deterministic = true
database = "none"

[checks.use_after_free]
enabled = false

[checks.positive_data_acceptance]
expected-statuses = [
    "2xx", "400", "401", "403", "404", "409", "413", "415", "422", "429", "460",
]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "412", "413", "415", "422"]

[checks.missing_required_header]
expected-statuses = ["401", "403", "412", "415", "422"]
"""


@pytest.mark.slow
def test_all_checks_hold(tmp_path: Path, database_url: str) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    hooks = tmp_path / "hooks.py"
    hooks.write_text(HOOKS.format(root=str(Path(__file__).resolve().parents[2])))
    waits = {"wait_default": 0.05, "wait_max": 0.2}
    stack = Stack(tmp_path / "home", database_url=database_url, **waits)
    stack.keep_worker()
    stack.finish()
    # Each engine is asked in ways of its own: the borders of every schema, or at random.
    phases = ["examples", "fuzzing"]
    if database_url.startswith("sqlite"):
        phases = ["coverage", "stateful"]
    with serving(stack) as port:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
                f"http://127.0.0.1:{port}/openapi.json",
                *("--header", f"Authorization: Bearer {KEY}"),
                *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1"),
                *("--phases", ",".join(phases), "--continue-on-failure"),
            ],
            cwd=tmp_path,
            env=os.environ | {"SCHEMATHESIS_HOOKS": str(hooks)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
