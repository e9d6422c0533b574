"""The page in Chromium: from an event stored to its pixel, a large session opened, eight tabs of one browser.

The server runs in this process as `ui` runs it, the browser beside it; what is drawn is timed inside the page. Needs
Debian's Chromium (scripts/browser.sh).
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from agent.settings import load_settings
from agent.store import Store
from agent.ui.guard import Rules
from agent.ui.people import Local
from agent.ui.server import Server, launch
from benchmarks.table import Row, show

PROGRAM = "/usr/bin/chromium"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
DELTAS, TURNS, STEPS = 200, 40, 12
# Notes when the text of each numbered piece was on the screen: after the frame that follows its node.
WATCH = """() => {
  window.seen = {};
  const root = document.querySelector("ms-app").shadowRoot;
  const look = () => {
    const numbers = (root.querySelector(".output")?.textContent || "").match(/<\\d+>/g) || [];
    const fresh = numbers.filter((one) => !(one in window.seen));
    for (const one of fresh) window.seen[one] = 0;
    if (!fresh.length) return;
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        for (const one of fresh) window.seen[one] = performance.timeOrigin + performance.now();
      };
      channel.port2.postMessage(0);
    });
  };
  new MutationObserver(look).observe(root.querySelector("ms-log"), { childList: true, subtree: true });
}"""
# Notes when the log of the session was all there.
OPENED = """
const look = () => {
  const log = document.querySelector("ms-app")?.log;
  if (log?.live && log.list.children.length) window.opened = performance.now();
  else requestAnimationFrame(look);
};
look();
"""


@contextmanager
def served() -> Iterator[tuple[Store, str]]:
    with tempfile.TemporaryDirectory(prefix="smith-", ignore_cleanup_errors=True) as home:
        settings = load_settings(home=home, sandbox="embedded", model="recipes")
        with Store.open(settings.home) as store:
            server = Server.build(settings, store, Local())
            demo = launch(server, Rules(), "127.0.0.1", None)
            try:
                yield store, demo.local_url.rstrip("/")
            finally:
                server.live.close()
                demo.close(verbose=False)


def output(text: str, step: int = 1) -> tuple[str, dict[str, Any]]:
    return "output", {"text": text, "step": step, "stream": "stdout"}


def pixel(store: Store, url: str, browser: Browser) -> list[Row]:
    """Ten pieces of 40 characters a second, as a streamed answer comes."""
    id = store.create_session().id
    store.append_many(id, [("task", {"text": "stream"}), output("begin\n")])
    page = browser.new_page()
    page.goto(f"{url}/#s/{id}")
    page.locator(".output").wait_for()
    page.evaluate(WATCH)
    stored = {}
    for number in range(DELTAS):
        name = f"<{number}>"
        stored[name] = store.append(id, *output(name.ljust(39, ".") + "\n")).at * 1000
        page.wait_for_timeout(100)
    seen = page.evaluate("window.seen")
    page.close()
    delays = [at - stored[name] for name, at in seen.items() if at and name in stored]
    note = f"p50 {statistics.median(delays):.0f} ms, {len(delays)} of {DELTAS} seen"
    return [Row("event stored to pixel, p95", statistics.quantiles(delays, n=20)[-1], "ms", 80, note=note)]


def large(store: Store) -> str:
    """2,000 events with 5 MB of output, as forty long turns leave them."""
    id = store.create_session(title="large").id
    code = "import pandas as pd\n" + "frame = frame.assign(total=frame.a + frame.b)  # once more\n" * 8
    for turn in range(TURNS):
        events: list[tuple[str, dict[str, Any]]] = [("task", {"text": f"task {turn}"})]
        for step in range(1, STEPS + 1):
            events += [("thought", {"text": "I look at the next column. " * 6, "step": step})]
            events += [("code", {"text": code, "step": step})]
            events += [output("".join(f"row {n} of {step}: {n * n}\n" for n in range(500)), step)]
            events += [("usage", {"input_tokens": 900, "output_tokens": 90, "step": step})]
        events += [("answer", {"text": f"**Turn {turn}** is done.\n\n- one\n- two"}), ("state", {"state": "succeeded"})]
        store.append_many(id, events)
    return id


def opening(store: Store, url: str, browser: Browser) -> list[Row]:
    id, took, memory = large(store), [], 0.0
    paints = []
    for _ in range(5):
        context = browser.new_context()
        context.add_init_script(OPENED)
        page = context.new_page()
        page.goto(f"{url}/#s/{id}")
        took.append(until(page, "window.opened"))
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime || 0"))
        memory = max(memory, renderer())
        context.close()
    size = sum(len(str(event.data)) for event in store.all(id)) / 1e6
    note = f"{store.session(id).last_seq:,} events, {size:.1f} MB; first of five {took[0] / 1000:.2f} s"
    return [
        Row("a session of 2,000 events opens, from the address", statistics.median(took) / 1000, "s", 1.5, note=note),
        Row("memory of its tab", memory, "MB", 300, note="proportional share of the renderer"),
        Row("first paint of the page", statistics.median(paints) / 1000, "s", 1.5, note="told"),
    ]


def until(page: Page, expression: str, seconds: float = 60) -> float:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := page.evaluate(expression):
            return float(value)
        page.wait_for_timeout(20)
    raise TimeoutError(expression)


def renderer() -> float:
    """Megabytes of the largest renderer process below us."""
    found = [0.0]
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" in (place / "cmdline").read_bytes() and descends(place):
                lines = (place / "smaps_rollup").read_text().splitlines()
                found.append(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000)
        except (OSError, StopIteration):
            continue  # it ended meanwhile
    return max(found)


def descends(place: Path) -> bool:
    pid = int(place.name)
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def tabs(store: Store, url: str, browser: Browser) -> list[Row]:
    id = store.create_session().id
    store.append_many(id, [("task", {"text": "stream"}), output("begin\n")])
    context = browser.new_context()
    pages = [context.new_page() for _ in range(8)]
    for page in pages:
        page.goto(f"{url}/#s/{id}")
        page.locator(".output").wait_for()
    store.append(id, *output("LAST\n"))
    live = 0
    for page in pages:
        page.locator(".output", has_text="LAST").wait_for(timeout=10_000)
        live += 1
    context.close()
    return [Row("tabs of one browser that are not live, of eight", 8 - live, "", 0)]


def main() -> int:
    rows: list[Row] = []
    with served() as (store, url), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
        for group in (pixel, opening, tabs):
            rows += group(store, url, browser)
        browser.close()
    return show("page_browser", rows)


if __name__ == "__main__":
    sys.exit(main())
