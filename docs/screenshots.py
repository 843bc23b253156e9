"""The pictures of the console in README: python docs/screenshots.py

Starts `moderation serve` with the shipped models in a temporary folder, sends harmless pictures (of
scikit-image: public domain and CC0) and a film of a fractal, and photographs pages in Debian's
Chromium. A policy of its own sends everything to a person.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import imageio_ffmpeg
import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent / "img"
KEY = "screenshots-0123456789abcdef0123456789abcdef"
PASSWORD = "only for screenshots"  # noqa: S105
PICTURES = ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins", "moon", "brick")
LABELS = ("porn.explicit", "smoking.smoking", "violence.weapon", "violence.fight", "violence.fire")
POLICY = "id: all\nversion: 1\nrules:\n" + "".join(
    f"  - {{label: {label}, review_at: 0.05, block_at: 0.97}}\n" for label in LABELS
)
FRACTAL = "-v error -f lavfi -i mandelbrot=size=1280x720:rate=25 -t 20 -pix_fmt yuv420p"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        home = Path(folder)
        (home / "all.yaml").write_text(POLICY)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        env = os.environ | {
            "MODERATION_HOME": str(home / "var"),
            "MODERATION_PORT": str(port),
            "MODERATION_POLICY_DIR": str(home),
            "MODERATION_DEFAULT_POLICY": "all",
            "MODERATION_BOOTSTRAP_KEY": KEY,
        }
        server = subprocess.Popen([sys.executable, "-m", "workers.supervisor"], env=env)
        try:
            photograph(f"http://127.0.0.1:{port}", env, home)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def photograph(url: str, env: dict[str, str], home: Path) -> None:
    fill(url, home)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "moderation.cli",
            "users",
            "create",
            "anna",
            "--role",
            "admin",
            "--password-stdin",
        ],
        input=PASSWORD,
        text=True,
        env=env,
        check=True,
    )
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        for name, width, scheme, locale in (
            ("light", 1280, "light", "en"),
            ("dark", 800, "dark", "zh-CN"),
        ):
            size = {"width": width, "height": 800}
            context = browser.new_context(viewport=size, color_scheme=scheme, locale=locale)
            page = context.new_page()
            page.goto(f"{url}/console")
            page.fill("[name=name]", "anna")
            page.fill("[name=password]", PASSWORD)
            page.click("button.primary")
            page.wait_for_url("**/queue")
            if name == "dark":
                page.goto(f"{url}/console/queue?kind=image")
                page.keyboard.press("n")
                page.wait_for_url("**/items/*")
                page.keyboard.press("r")
                save(page, "dark")
                continue
            save(page, "queue")
            page.goto(f"{url}/console/queue?kind=image")
            page.keyboard.press("n")
            page.wait_for_url("**/items/*")
            save(page, "item")
            page.goto(f"{url}/console/queue?kind=video")
            page.keyboard.press("n")
            page.wait_for_url("**/items/*")
            page.keyboard.press("r")
            page.keyboard.press("]")
            save(page, "film")
            page.goto(f"{url}/console/policies/all")
            for label in ("Explicit porn", "Smoking", "Fire", "Weapon", "Fight"):
                page.get_by_label(f"Review from: {label}").fill("0.5")
            save(page, "rules")
            page.get_by_role("button", name="What would change?").click()
            page.wait_for_url("**/what-if*")
            save(page, "what-if")
        browser.close()


def fill(url: str, home: Path) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        deadline = time.monotonic() + 120
        while True:
            try:
                if client.get("/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass  # it is not up yet
            if time.monotonic() > deadline:
                raise SystemExit("the server does not become ready")
            time.sleep(0.2)
        for name in PICTURES:
            pixels = np.asarray(getattr(skimage.data, name)())
            file = io.BytesIO()
            Image.fromarray(pixels).convert("RGB").save(file, "jpeg")
            files = {"file": (f"{name}.jpg", file.getvalue())}
            client.post("/v1/images?wait=60", files=files).raise_for_status()
        film = home / "fractal.mp4"
        subprocess.run(
            [
                imageio_ffmpeg.get_ffmpeg_exe(),
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "mandelbrot=size=1280x720:rate=25",
                "-t",
                "20",
                "-pix_fmt",
                "yuv420p",
                str(film),
            ],
            check=True,
        )
        with film.open("rb") as data:
            answer = client.post("/v1/videos?wait=60", files={"file": ("fractal.mp4", data)})
        answer.raise_for_status()
        client.get(f"/v1/items/{answer.json()['id']}/derivatives/proxy.mp4?wait=60")


def save(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    raw = page.screenshot(
        clip={"x": 0, "y": 0, "width": page.viewport_size["width"], "height": 800}
    )  # type: ignore[index]
    picture = Image.open(io.BytesIO(raw)).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
    picture.save(FOLDER / f"{name}.png", optimize=True)
    sys.stdout.write(f"{FOLDER / name}.png\n")


if __name__ == "__main__":
    main()
