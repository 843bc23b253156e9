"""Installing and serving never import torch: everything with the import blocked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import environment, moderation
from PIL import Image

BLOCK = (
    "import sys\nfor name in ('torch', 'torchvision', 'safetensors'): sys.modules[name] = None\n"
)


def test_scan_answers_every_scene_on_real_weights(tmp_path: Path) -> None:
    home = tmp_path / "home"
    if moderation("weights", "verify", home=home).code:
        pytest.skip("the weights are not pulled: `make install`")
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            BLOCK + "from moderation.cli import main; sys.exit(main(['scan', 'a.png', '--json']))",
        ],
        env=environment(home, MODERATION_BACKEND="openvino"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    verdict = json.loads(done.stdout)
    assert verdict["status"] == "done"
    assert set(verdict["scores"]) >= {
        "porn.explicit",
        "violence.gore",
        "violence.weapon",
        "violence.fight",
        "violence.fire",
        "smoking.smoking",
    }


@pytest.mark.parametrize(
    "module",
    [
        "api.__main__",
        "workers.infer",
        "workers.media",
        "workers.live",
        "workers.supervisor",
        "moderation.cli.app",
    ],
)
def test_every_process_imports(module: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{BLOCK}import {module}"],
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
