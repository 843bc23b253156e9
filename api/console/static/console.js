// Keys, the veil, and films. Everything here also works without it, but for the keys.
(() => {
  "use strict";

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const look = () => document.querySelector(".look");
  const film = () => document.querySelector("[data-film] video");
  let revealed = false; // for good, by `r`
  let held = false; // as long as it is held
  let told = ""; // the item whose reveal was counted

  // --- the veil

  function show() {
    const place = look();
    if (!place) return;
    const open = revealed || held;
    if (open) {
      for (const image of all("image.clear", place)) {
        if (!image.getAttribute("href")) image.setAttribute("href", image.dataset.href);
      }
      count();
    }
    place.classList.toggle("open", open);
    const toggle = place.querySelector("[data-toggle]");
    if (toggle) toggle.setAttribute("aria-pressed", String(revealed));
  }

  function count() {
    const item = document.querySelector("[data-reveal]");
    if (!item || told === item.dataset.item) return;
    told = item.dataset.item;
    const headers = JSON.parse(document.body.getAttribute("hx-headers"));
    fetch(item.dataset.reveal, { method: "POST", headers, credentials: "same-origin" });
  }

  function hold(on) {
    held = on;
    show();
  }

  // --- films

  function jump(time) {
    const video = film();
    if (!video) return;
    const go = () => {
      video.currentTime = Math.min(Math.max(0, time), video.duration || time);
    };
    if (video.readyState >= 1) go();
    else video.addEventListener("loadedmetadata", go, { once: true });
  }

  function follow() {
    const video = film();
    if (!video || video.dataset.followed) return;
    video.dataset.followed = "yes";
    video.muted = true;
    const output = document.querySelector("[data-time]");
    const chart = document.querySelector("svg.timeline");
    const update = () => {
      const time = video.currentTime;
      output.textContent = `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;
      if (!chart) return;
      const { left, right, seconds } = chart.dataset;
      const x = +left + (Math.min(time, +seconds) / +seconds) * (right - left);
      const head = chart.querySelector("[data-playhead]");
      head.setAttribute("x1", x);
      head.setAttribute("x2", x);
    };
    for (const name of ["timeupdate", "seeked", "loadedmetadata"]) video.addEventListener(name, update);
    video.addEventListener("play", count);
    // A film that is being made is there some seconds later.
    let tries = 0;
    video.addEventListener("error", () => {
      if (++tries <= 30) setTimeout(() => video.isConnected && video.load(), 2000);
    });
  }

  function step(by) {
    const video = film();
    if (!video) return;
    video.pause();
    jump(video.currentTime + by / 25);
  }

  function segment(by) {
    const times = all("[data-jump]").map((one) => +one.dataset.jump).sort((a, b) => a - b);
    const now = film() ? film().currentTime : 0;
    const next = by > 0 ? times.find((time) => time > now + 0.05) : times.reverse().find((time) => time < now - 0.05);
    if (next !== undefined) jump(next);
  }

  document.addEventListener("click", (event) => {
    const target = event.target;
    if (!(target instanceof Element)) return;
    const to = target.closest("[data-jump]");
    if (to) jump(+to.dataset.jump);
    const by = target.closest("[data-step]");
    if (by) step(+by.dataset.step);
    if (target.closest("[data-play]") && film()) {
      if (film().paused) film().play();
      else film().pause();
    }
    if (target.closest("[data-toggle]")) {
      revealed = !revealed;
      show();
    }
    if (target.closest("[data-help]")) document.getElementById("help").showModal();
    const chart = target.closest("svg.timeline");
    if (chart) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
      const { left, right, seconds } = chart.dataset;
      jump(((at.x - left) / (right - left)) * seconds);
    }
  });

  document.addEventListener("input", (event) => {
    const place = look();
    if (!place || !(event.target instanceof HTMLInputElement)) return;
    if (event.target.matches("[data-softness]")) {
      place.className = place.className.replace(/soft-\d+/, `soft-${event.target.value}`);
    }
    if (event.target.matches("[data-grey]")) place.classList.toggle("grey", event.target.checked);
  });

  for (const [name, on] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]]) {
    document.addEventListener(name, (event) => {
      const inside = event.target instanceof Element && event.target.closest("[data-hold], [data-still]");
      if (on ? inside && event.button === 0 : held) hold(on);
    });
  }
  addEventListener("blur", () => held && hold(false));
  document.addEventListener("contextmenu", (event) => {
    if (event.target instanceof Element && event.target.closest(".look")) event.preventDefault();
  });
  document.addEventListener("dragstart", (event) => {
    if (event.target instanceof Element && event.target.closest(".look")) event.preventDefault();
  });

  // --- keys

  const writing = (element) =>
    element instanceof Element &&
    element.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=range]), [contenteditable]");

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && writing(event.target)) {
      event.target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || writing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const native = event.target instanceof Element && event.target.closest("button, a, summary, video, input");
    if (event.key === " ") {
      if (!look() || (native && !native.matches("[data-hold]"))) return;
      event.preventDefault();
      if (!event.repeat) hold(true);
      return;
    }
    if (event.repeat) return;
    if (event.key === "?") {
      document.getElementById("help")?.showModal();
    } else if (event.key === "[" || event.key === "]") {
      segment(event.key === "]" ? 1 : -1);
    } else if (/^[1-9]$/.test(event.key)) {
      const labels = document.querySelector("[data-labels]");
      if (!labels || labels.options.length < +event.key) return;
      labels.selectedIndex = +event.key - 1;
    } else {
      const element = all("[data-key]").find((one) => one.dataset.key === event.key);
      if (!element) return;
      if (element.matches("textarea, select")) element.focus();
      else element.click();
    }
    event.preventDefault();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " " && held) hold(false);
  });

  // --- breaks, and pages that change in place

  const BEGAN = "moderation.began";
  const LAST = "moderation.last";
  function rest() {
    const minutes = +document.body.dataset.break;
    if (!minutes || !look()) return;
    const now = Date.now();
    const last = +sessionStorage.getItem(LAST) || 0;
    // Five minutes without a look are a break.
    if (now - last > 300000) sessionStorage.setItem(BEGAN, now);
    sessionStorage.setItem(LAST, now);
    if (now - +sessionStorage.getItem(BEGAN) < minutes * 60000) return;
    sessionStorage.setItem(BEGAN, now);
    document.getElementById("break").showModal();
  }

  function begin() {
    revealed = !!look() && !look().classList.contains("veiled");
    held = false;
    follow();
    rest();
    show();
  }

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target instanceof Element && event.target.id === "main") {
      begin();
      document.getElementById("main").focus({ preventScroll: true });
    }
  });
  // What somebody is about to press does not go from under their hands.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const place = event.detail.elt;
    if (place.id === "wall" && place.contains(document.activeElement)) event.preventDefault();
  });
  // A decision that was refused: the answer is a page that says why. Whatever else fails leaves what
  // is there: a proxy's error has nothing to show, and the wall would be gone with its polling.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target } = event.detail;
    if (xhr.status < 400) return;
    event.detail.shouldSwap = target.id === "main" && xhr.responseText.includes('<main id="main"');
  });
  document.addEventListener("DOMContentLoaded", begin);
})();
