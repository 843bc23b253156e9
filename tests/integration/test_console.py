"""The console in a browser, before the real stack: Debian's Chromium by Playwright.

What people do with keys alone, in two browsers at once; every page at two widths, light and dark,
by axe's rules; uploads in formats that no browser shows.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import skimage.data
from axe_playwright_python.sync_playwright import Axe
from media import write
from PIL import Image
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)
from served import KEY, Receiver, Served, free_port, picture, until

from moderation.store import accounts
from moderation.store.engine import open_database
from moderation.store.review_records import Role
from tests.fakes.browsing import PASSWORD
from tests.fakes.identity import Identity, identity_provider

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
POLICY = """
id: default
version: 1
rules:
  - {label: porn.explicit, review_at: 0.1, block_at: 0.999}
  - {label: violence.weapon, review_at: 0.1, block_at: 0.999}
"""
PEOPLE = {
    "anna": Role.REVIEWER,
    "ben": Role.REVIEWER,
    "vic": Role.REVIEWER,
    "lea": Role.LEAD,
    "root": Role.ADMIN,
}
GRAVE = ("serious", "critical")


@dataclass
class Seat:
    """A page, and what it should not have done: errors in its console, requests to elsewhere."""

    page: Page
    home: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._asked)

    def _said(self, told: ConsoleMessage) -> None:
        if told.type in ("error", "warning"):
            self.wrong.append(told.text)

    def _asked(self, sent: Request) -> None:
        if not sent.url.startswith(self.home):
            self.wrong.append(sent.url)

    def go(self, path: str) -> None:
        self.page.goto(f"{self.home}/console{path}")

    def press(self, key: str) -> None:
        """A key that leads to another page."""
        with self.page.expect_navigation():
            self.page.keyboard.press(key)

    def sign_in(self, name: str) -> None:
        """By keys alone: the name has the focus."""
        self.go("/")
        expect(self.page.locator("[name=name]")).to_be_focused()
        self.page.keyboard.type(name)
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(PASSWORD)
        self.press("Enter")
        expect(self.page.locator(".me")).to_contain_text(name)

    @property
    def item(self) -> str:
        """The item that is shown."""
        return str(self.page.locator("[data-item]").get_attribute("data-item"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def identity() -> Iterator[Identity]:
    with identity_provider() as made:
        yield made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, identity: Identity) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("console")
    (folder / "policies").mkdir()
    (folder / "policies" / "default.yaml").write_text(POLICY)
    served = Served(
        folder / "home",
        policy_dir=str(folder / "policies"),
        backend="fake",
        fetch_enabled="true",
        **identity.settings(oidc_name="Example ID"),
    )
    served.start()
    try:
        db = open_database(f"sqlite:///{served.home / 'moderation.db'}")
        for name, role in PEOPLE.items():
            accounts.create(db, tenant="default", name=name, role=role, password=PASSWORD)
        db.close()
        yield served
        served.stop()
    finally:
        served.destroy()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=served.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def seat(chromium: Browser, served: Served) -> Iterator[Callable[..., Seat]]:
    """Opens browsers of their own; at the end none of them has complained."""
    seats: list[Seat] = []

    def sit(name: str | None = None, *, width: int = 1280, **options: Any) -> Seat:
        size = {"width": width, "height": 800}
        context = chromium.new_context(viewport=size, **options)  # type: ignore[arg-type]
        context.set_default_timeout(20_000)
        seats.append(Seat(context.new_page(), served.url))
        if name is not None:
            seats[-1].sign_in(name)
        return seats[-1]

    yield sit
    for one in seats:
        one.page.context.close()
    assert [wrong for one in seats for wrong in one.wrong] == []


@contextmanager
def receiving(served: Served) -> Iterator[Receiver]:
    receiver = Receiver(lambda: (served.home / "webhook-secret").read_text().strip())
    try:
        yield receiver
    finally:
        receiver.close()


def sent(client: httpx.Client, data: bytes, kind: str = "images", **query: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/{kind}", params={"wait": 60} | query, content=data)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def verdict_of(client: httpx.Client, item_id: str) -> tuple[str, str]:
    told = client.get(f"/v1/items/{item_id}").json()["verdict"]
    return told["decision"], told["decided_by"]


@pytest.mark.slow
def test_a_reviewer_works_by_keys_and_every_decision_counts(
    seat: Callable[..., Seat], served: Served, client: httpx.Client
) -> None:
    with receiving(served) as receiver:
        uploads = {
            sent(client, data, data_id=f"<b>{number}</b>", callback_url=receiver.url)["id"]: data
            for number, data in enumerate(map(picture, range(1, 4)))
        }
        anna = seat("anna")
        expect(anna.page.locator(".counts")).to_contain_text("3 open")
        anna.press("n")
        item = anna.item
        clear = anna.page.locator("image.clear").first
        expect(clear).to_have_css("visibility", "hidden")
        anna.page.keyboard.down("Space")
        expect(clear).to_have_css("visibility", "visible")
        anna.page.keyboard.up("Space")
        expect(clear).to_have_css("visibility", "hidden")
        anna.page.keyboard.press("r")
        expect(clear).to_have_css("visibility", "visible")
        # The next one is claimed and loaded while this one is looked at.
        expect(anna.page.locator("[data-ahead] img")).to_have_count(2)

        anna.page.keyboard.press("p")
        expect(anna.page.locator(".toast")).to_be_visible()
        second = anna.item
        assert second != item
        assert anna.page.url.startswith(f"{served.url}/console/items/{second}?undo=")
        assert verdict_of(client, item) == ("pass", "person")
        anna.press("u")
        assert anna.item == item
        assert verdict_of(client, item) == ("review", "policy")

        anna.page.keyboard.press("m")
        anna.page.keyboard.type("pbs? are letters here")
        anna.page.keyboard.press("Escape")
        anna.page.keyboard.press("2")
        anna.page.keyboard.press("b")
        expect(anna.page.locator("[data-item]")).to_have_attribute("data-item", second)
        assert verdict_of(client, item) == ("block", "person")
        (_, made) = client.get(f"/v1/reviews/{item}/decisions").json()["decisions"]
        assert (made["note"], made["action"]) == ("pbs? are letters here", "block")
        assert made["label"] == "violence.weapon"

        def told() -> list[str]:
            events = [one for many in receiver.events.values() for one in many]
            of_item = [one for one in events if one["data"]["id"] == item]
            return [
                f"{one['type']} {one['data']['decision']}"
                for one in sorted(of_item, key=lambda one: str(one["timestamp"]))
                if one["type"] == "item.decided"
            ]

        wanted = ["item.decided pass", "item.decided review", "item.decided block"]
        until(lambda: told()[-3:] == wanted, 20, f"callbacks of the decisions: {told()}")
        assert receiver.problems == []
        again = sent(client, uploads[item])
        assert (again["decision"], again["decided_by"]) == ("block", "person")
        anna.press("s")
        assert anna.item not in (item, second)
        anna.press("q")
        expect(anna.page.locator("h1")).to_have_text("Queue")


@pytest.mark.slow
def test_an_identity_provider_lets_somebody_in(
    seat: Callable[..., Seat], identity: Identity
) -> None:
    """With the cookies, redirects and policies of a real browser."""
    mei = seat()
    mei.go("/lists")
    mei.page.get_by_role("link", name="Sign in with Example ID").click()
    expect(mei.page).to_have_url(f"{mei.home}/console/lists")
    expect(mei.page.locator(".me")).to_contain_text("mei-lin")
    mei.go("/account")
    expect(mei.page.get_by_role("heading", name="Password")).to_have_count(0)
    mei.wrong[:] = [told for told in mei.wrong if not told.startswith(identity.url)]


@pytest.mark.slow
def test_two_reviewers_never_have_the_same_item(
    seat: Callable[..., Seat], client: httpx.Client
) -> None:
    for number in range(10, 18):
        sent(client, picture(number))
    anna, ben = seat("anna"), seat("ben")
    had: list[set[str]] = [set(), set()]
    for _ in range(3):
        for one, mine in zip((anna, ben), had, strict=True):
            if not mine:
                one.press("n")
            else:
                before = one.item
                one.page.keyboard.press("p")
                expect(one.page.locator("[data-item]")).not_to_have_attribute("data-item", before)
            mine.add(one.item)
    assert [len(mine) for mine in had] == [3, 3]
    assert had[0] & had[1] == set()


@pytest.mark.slow
def test_what_is_put_on_a_list_is_blocked_when_it_comes_back_changed(
    seat: Callable[..., Seat], client: httpx.Client
) -> None:
    item = sent(client, photo(95))["id"]
    near = sent(client, photo(60))["id"]
    lea = seat("lea")
    lea.go("/lists")
    lea.page.fill("[name=name]", "known")
    lea.page.select_option("[name=label]", "violence.gore")
    lea.page.get_by_role("button", name="Make").click()
    expect(lea.page.locator("h1")).to_have_text("known")
    lea.go(f"/items/{item}")
    lea.press("c")
    lea.press("a")
    lea.page.get_by_label("I have seen all of them").check()
    lea.page.get_by_role("button", name="Pass").click()
    expect(lea.page.locator("h1")).to_contain_text("Decided: 2")
    assert verdict_of(client, near) == ("pass", "person")
    lea.go(f"/items/{item}")
    lea.page.locator("[name=bank]").select_option(label="known (block)")
    lea.page.get_by_role("button", name="Add").click()
    expect(lea.page.locator(".notice")).to_have_text("It is on the list.")
    changed = sent(client, photo(30, width=400))
    assert (changed["decision"], changed["decided_by"]) == ("block", "list")
    lea.go(f"/lists?look_up={changed['id']}")
    expect(lea.page.locator("[role=status]")).to_contain_text("known")


@pytest.mark.slow
def test_rules_are_tried_on_what_came_and_published_by_keys_alone(
    seat: Callable[..., Seat], client: httpx.Client
) -> None:
    for number in range(40, 46):
        sent(client, picture(number), policy="lenient")
    before = sent(client, picture(46), policy="lenient")
    lea = seat("lea")
    lea.go("/policies/lenient")
    lea.page.get_by_label("Review from: Explicit porn").focus()
    lea.page.keyboard.press("Control+A")
    lea.page.keyboard.type("0")
    lea.page.keyboard.press("Tab")
    lea.page.keyboard.press("Control+A")
    lea.page.keyboard.type("0")
    lea.press("Enter")
    told = lea.page.locator("#what-if")
    expect(told).to_contain_text("7 of 7 items would be decided differently.")
    expect(told).to_contain_text("7 of 7 items that this very version judged come out as they did")
    expect(told.get_by_role("row", name="block 0 0.0 %")).to_contain_text("+7")
    expect(told.locator("a").first).to_have_attribute("href", re.compile("/console/items/item_"))
    button = lea.page.get_by_role("button", name="Publish as version 5")
    button.focus()
    lea.press("Enter")
    expect(lea.page.locator("[role=status]")).to_contain_text("lenient@5")
    expect(lea.page.locator("section", has_text="History")).to_contain_text("0.97 → 0")
    # The very next upload, of the same bytes too, is judged by it; what was judged stays.
    again = sent(client, picture(46), policy="lenient")
    assert (before["decision"], again["decision"], again["policy"]) == (
        "pass",
        "block",
        "lenient@5",
    )
    assert verdict_of(client, before["id"]) == ("pass", "policy")
    lea.page.get_by_text("Go back to it").press("Enter")
    lea.page.get_by_role("button", name="Publish anew: version 4").focus()
    lea.press("Enter")
    expect(lea.page.locator("[role=status]")).to_contain_text("lenient@6")
    assert sent(client, picture(46), policy="lenient")["decision"] == "pass"


@pytest.mark.slow
def test_a_stream_is_started_watched_and_stopped_on_the_wall(seat: Callable[..., Seat]) -> None:
    lea = seat("lea")
    lea.go("/streams")
    # Nobody sends there: the wall tells how it goes all the same.
    lea.page.fill("[name=url]", f"rtmp://127.0.0.1:{free_port()}/live/room")
    lea.page.fill("[name=data_id]", "room <7>")
    lea.page.get_by_role("button", name="Watch").click()
    tile = lea.page.locator("article")
    expect(tile.locator("h2")).to_have_text("room <7>")
    expect(tile.locator(".tag").first).to_have_text("retrying")
    tile.get_by_role("button", name="Stop").click()
    expect(tile.locator(".tag").first).to_have_text("ended")
    expect(tile.get_by_role("button", name="Start")).to_be_visible()
    anna = seat("anna")
    anna.go("/streams")
    expect(anna.page.locator("article h2")).to_have_text("room <7>")
    expect(anna.page.get_by_role("button", name="Start")).to_have_count(0)


@pytest.mark.slow
def test_the_veil_holds_on_every_way_and_failures_leave_what_is_there(
    seat: Callable[..., Seat], client: httpx.Client
) -> None:
    first, second = (sent(client, picture(number))["id"] for number in (60, 61))
    vic = seat("vic")
    clear = vic.page.locator("image.clear").first

    # Back to an item: what was opened on the next one stays covered here.
    vic.go(f"/items/{first}")
    vic.press("c")
    vic.page.keyboard.press("p")
    expect(vic.page.locator("[data-item]")).not_to_have_attribute("data-item", first)
    expect(vic.page.locator("#main")).to_be_focused()
    vic.page.keyboard.press("r")
    expect(clear).to_have_css("visibility", "visible")
    with vic.page.expect_navigation():
        vic.page.go_back()
    expect(vic.page.locator("[data-item]")).to_have_attribute("data-item", first)
    expect(clear).to_have_css("visibility", "hidden")
    vic.page.keyboard.down("Space")
    expect(clear).to_have_css("visibility", "visible")
    vic.page.keyboard.up("Space")
    expect(clear).to_have_css("visibility", "hidden")

    # A decision that fails on its way, by whatever stands before the gateway: nothing is lost.
    vic.go(f"/items/{second}")
    if vic.page.locator("[data-key=c]").count():
        vic.press("c")
    vic.page.keyboard.press("m")
    vic.page.keyboard.type("a note")
    vic.page.keyboard.press("Escape")
    broken: dict[str, Any] = {"status": 502, "body": "<h1>Bad gateway</h1>"}
    vic.page.route("**/decision*", lambda route: route.fulfill(**broken))
    with vic.page.expect_response("**/decision*"):
        vic.page.keyboard.press("b")
    expect(vic.page.locator("textarea[name=note]")).to_have_value("a note")
    vic.page.unroute("**/decision*")

    # The wall outlives a poll that fails.
    vic.go("/streams")
    vic.page.route("**/console/streams", lambda route: route.fulfill(**broken))
    with vic.page.expect_response("**/console/streams"):
        pass
    vic.page.unroute("**/console/streams")
    expect(vic.page.locator("#wall")).to_be_visible()
    with vic.page.expect_response("**/console/streams") as polled:
        pass
    assert polled.value.status == 200
    told = [one for one in vic.wrong if "502" in one]
    assert len(told) >= 2, "the browser's own words on what failed"
    vic.wrong[:] = [one for one in vic.wrong if one not in told and "Response Status" not in one]

    # Who switched the veil off sees the picture at once.
    vic.go("/account")
    vic.page.locator("[name=veil]").uncheck()
    vic.page.get_by_role("button", name="Keep").click()
    vic.go(f"/items/{second}")
    expect(clear).to_have_css("visibility", "visible")
    vic.page.keyboard.press("r")
    expect(clear).to_have_css("visibility", "hidden")


def photo(quality: int, width: int = 512) -> bytes:
    """The astronaut of scikit-image, as JPEG."""
    file = io.BytesIO()
    picture = Image.fromarray(skimage.data.astronaut()).resize((width, width))
    picture.save(file, "jpeg", quality=quality)
    return file.getvalue()


@pytest.mark.slow
def test_uploads_that_no_browser_shows_are_reviewed_like_any_other(
    seat: Callable[..., Seat], client: httpx.Client, tmp_path: Path
) -> None:
    words = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=3")
    films = {
        "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"),
        "film.flv": ("-c:v", "flv1"),
        "film.avi": ("-c:v", "mpeg4"),
    }
    anna = seat("anna")
    for name, codec in films.items():
        film = write(tmp_path / name, *words, "-pix_fmt", "yuv420p", *codec)
        item = sent(client, film.read_bytes(), "videos")["id"]
        anna.go(f"/items/{item}")
        video = anna.page.locator("video")

        def told(what: str, video: Locator = video) -> Any:
            return video.evaluate(f"video => video.{what}")

        until(lambda told=told: told("readyState") >= 1, 30, f"{name} is loaded")
        assert (told("paused"), told("muted"), told("videoWidth")) == (True, True, 320), name
        assert told("duration") == pytest.approx(3, abs=0.2)
        anna.page.keyboard.press("]")
        until(lambda told=told: not told("seeking"), 10, f"{name} jumps")
        before = told("currentTime")
        anna.page.keyboard.press(".")
        until(lambda told=told, at=before: told("currentTime") > at, 10, f"{name} steps")
    heic = (Path(__file__).parent.parent / "data" / "rotated.heic").read_bytes()
    anna.go(f"/items/{sent(client, heic)['id']}")
    anna.page.keyboard.press("r")
    expect(anna.page.locator("image.clear")).to_have_css("visibility", "visible")
    size = anna.page.evaluate(
        """async () => {
          const image = new Image();
          image.src = document.querySelector("image.clear").getAttribute("href");
          await image.decode();
          return [image.naturalWidth, image.naturalHeight];
        }"""
    )
    assert size == [64, 128]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "scheme", "locale"),
    [(1280, "light", "en-GB"), (800, "dark", "zh-CN")],
)
def test_every_page_is_tidy_and_open_to_all(
    seat: Callable[..., Seat], client: httpx.Client, width: int, scheme: str, locale: str
) -> None:
    item = sent(client, picture(width), data_id="x" * 200, source="/a/" + "y" * 200)["id"]
    stranger = seat(width=width, color_scheme=scheme, locale=locale)
    check(stranger, "/sign-in")
    root = seat("root", width=width, color_scheme=scheme, locale=locale)
    for path in (
        "/queue",
        "/queue?state=all&label=porn.explicit&source=nowhere",
        f"/items/{item}",
        f"/items/{item}/alike",
        "/lists",
        "/policies",
        "/policies/strict",
        "/streams",
        "/insight",
        "/account",
        "/users",
        "/audit",
        "/export",
        "/retention",
    ):
        check(root, path)
    root.go("/policies/lenient")
    with root.page.expect_navigation():
        root.page.get_by_role("button", name=re.compile("What would change|将有哪些")).click()
    check(root)
    check(root, "/nothing")
    assert "404" in root.wrong.pop()
    root.page.keyboard.press("?")
    expect(root.page.locator("#help")).to_be_visible()
    root.page.keyboard.press("Escape")
    root.go("/queue")
    root.press("n")
    check(root)
    decided = root.item
    root.page.keyboard.press("p")
    expect(root.page.locator(".toast")).to_be_visible()
    root.go("/export")
    with root.page.expect_download() as download:
        root.page.locator("form[method=post] .primary").click()
    assert decided in download.value.path().read_text()


def check(seat: Seat, path: str | None = None) -> None:
    """No grave fault by axe's rules, and nothing is wider than the window."""
    if path is not None:
        seat.go(path)
    found = Axe().run(seat.page).response["violations"]
    grave = [
        (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in GRAVE
    ]
    assert grave == [], path
    wide = seat.page.evaluate(
        "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
    )
    assert wide == 0, path
