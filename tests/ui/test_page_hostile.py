"""What a model, a program or a tool says is text: nothing of it runs, loads, covers the page or stops it."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.agent.talking import until

from .chromium import Visit
from .conftest import Serve

EVIL = (
    "<script>window.evil=1</script><img src=x onerror='window.evil=1'><iframe srcdoc='<script>parent.evil=1</script>'>"
    "<svg onload=window.evil=1><style>*{display:none}</style><form action=https://evil.example><input></form>"
    "[x](javascript:window.evil=1) ![x](https://evil.example/leak.png) [y](data:text/html,<script>1</script>)"
    '<div style="position:fixed;inset:0">'
)
CARD = {"tool": "buy", "risk": "paid", **dict.fromkeys(("what", "where", "price", "note"), EVIL)}
CARD["arguments"] = {EVIL: EVIL}
ASKED = {"id": "a1", "decision": "ask", "tool": EVIL, "risk": "paid", "what": EVIL, "where": EVIL, "reason": EVIL}
TASK: tuple[str, dict[str, Any]] = ("task", {"text": "do it"})
DONE: tuple[str, dict[str, Any]] = ("state", {"state": "succeeded"})
EVERYWHERE: list[tuple[str, dict[str, Any]]] = [
    ("task", {"text": EVIL, "files": [EVIL]}),
    ("state", {"state": "running", "detail": {"plan": {"steps": [EVIL, EVIL], "done": 1}}}),
    ("thought", {"text": EVIL, "step": 1}),
    ("code", {"text": EVIL, "step": 1, "language": EVIL}),
    ("output", {"text": EVIL, "step": 1, "stream": "stdout"}),
    ("output", {"text": EVIL, "step": 1, "stream": "stderr"}),
    ("tool_call", {"id": "c1", "tool": EVIL, "arguments": {EVIL: EVIL}, "step": 1}),
    ("tool_result", {"id": "c1", "tool": EVIL, "ok": True, "seconds": 1.0, "step": 1}
     | {"result": {"type": "table", "title": EVIL, "columns": [EVIL], "rows": [[EVIL]], "note": EVIL}}),
    ("tool_call", {"id": "c2", "tool": "plot", "arguments": {}, "step": 1}),
    ("tool_result", {"id": "c2", "tool": "plot", "ok": True, "seconds": 1.0, "step": 1}
     | {"result": {"type": "plot", "title": EVIL, "png": "x' onerror='window.evil=1"}}),
    ("tool_call", {"id": "c3", "tool": "report", "arguments": {}, "step": 1}),
    ("tool_result", {"id": "c3", "tool": "report", "ok": False, "seconds": 1.0, "error": EVIL, "step": 1}),
    ("approval", {**ASKED, "by": EVIL, "usd": 1.0, "priced": True, "card": CARD}),
    ("artifact", {"path": f"/x/{EVIL.replace('/', '')}.png", "kind": EVIL, "title": EVIL}),
    ("job", {"id": EVIL, "state": EVIL, "run": EVIL, "detail": EVIL, "url": "javascript:window.evil=1"}),
    ("metric", {"run": EVIL, "values": {EVIL: 1.0}}),
    ("error", {"text": EVIL, "kind": EVIL, "hint": EVIL, "detail": EVIL}),
    ("answer", {"text": EVIL}),
    ("state", {"state": "failed", "reason": EVIL, "exit_code": 1, "detail": {"model": EVIL, "why": EVIL}}),
]  # fmt: skip


def stored(serve: Serve, events: list[tuple[str, dict[str, Any]]]) -> tuple[str, str]:
    served = serve()
    id = served.new()
    served.store.append_many(id, events)
    return served.url, id


def test_hostile_text_in_every_event_stays_text(serve: Serve, visit: Visit) -> None:
    url, id = stored(serve, EVERYWHERE)
    page = visit(f"{url}/#s/{id}")
    expect(page.locator(".turn-foot .end")).to_contain_text("Failed")
    page.locator("details").evaluate_all("all => all.forEach((one) => (one.open = true))")
    expect(page.locator(".tool-result th")).to_have_text(EVIL)
    expect(page.locator(".task-text")).to_have_text(EVIL)
    shadow = "document.querySelector('ms-app').shadowRoot"
    assert page.evaluate("window.evil") is None
    assert page.evaluate(f"{shadow}.querySelectorAll('script, iframe, form, style, object, embed').length") == 0
    sources = page.evaluate(f"[...{shadow}.querySelectorAll('img')].map(one => one.src)")
    assert all(source.startswith(url) for source in sources)
    links = page.evaluate(f"[...{shadow}.querySelectorAll('a')].map(one => one.getAttribute('href'))")
    assert not [link for link in links if "javascript:" in link or link.startswith("data:")]
    assert page.evaluate(f"[...{shadow}.querySelectorAll('[onerror], [onload], [onclick]')].length") == 0


def test_a_line_of_a_megabyte_shows_its_ends_and_all_of_it_on_demand(serve: Serve, visit: Visit) -> None:
    piece = "x" * 65_536
    events = [TASK]
    events += [("output", {"text": piece, "step": 1, "stream": "stdout"}) for _ in range(16)]
    events += [("output", {"text": "THE END", "step": 1, "stream": "stdout"}), DONE]
    url, id = stored(serve, events)
    page = visit(f"{url}/#s/{id}")
    output = page.locator(".output")
    expect(output).to_contain_text("THE END")
    assert len(output.inner_text()) < 20_000
    output.get_by_role("button", name="Show all 1,048,583 characters").click()
    until(lambda: output.evaluate("one => one.textContent.length") == 1_048_583)
    wide = "document.querySelector('ms-app').shadowRoot.querySelector('.log-scroll')"
    assert page.evaluate(f"{wide}.scrollWidth <= {wide}.clientWidth")


BOMBS = {
    "quotes": ">" * 40_000,
    "stars": "*a **b _c " * 8_000,
    "brackets": "[" * 60_000 + "](",
    "lists": "\n".join("  " * (n % 40) + "- x" for n in range(6_000)),
    "ticks": "`" * 30_001 + "a",
    "table": "|" + "a|" * 3_000 + "\n|" + "-|" * 3_000 + "\n" + ("|" + "b|" * 3_000 + "\n") * 20,
    "spaces": "a |" + " " * 80_000 + "\n---" + " " * 80_000 + "x",
    "links": "[a](http" * 10_000,
    "heading": "# " + " " * 80_000 + "x",
    "fences": "```a\n" * 9_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_markdown_bomb_is_drawn_in_a_moment(chromium: Any, drawing: Any, bomb: str) -> None:
    took = drawing.evaluate(
        """async (text) => {
          const { markdown } = await import("/x/static/lib/markdown.js");
          const begun = performance.now();
          const node = markdown(text);
          window.drawn = node.querySelectorAll("*").length;
          return performance.now() - begun;
        }""",
        BOMBS[bomb],
    )
    assert took < 3_000
    assert drawing.evaluate("window.drawn") < 80_000


@pytest.fixture(scope="module")
def drawing(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A page with our modules and nothing else."""
    from agent.ui.assets import STATIC

    page = chromium.new_page()

    def answer(route: Any) -> None:
        path = route.request.url.partition("/x/static/")[2]
        kind = "text/javascript" if path else "text/html"
        route.fulfill(body=(STATIC / path).read_text() if path else "<!doctype html>", content_type=kind)

    page.route("**/*", answer)
    page.goto("http://drawing.test/")
    yield page
    page.close()


def test_terminal_colours_are_kept_and_other_sequences_dropped(drawing: Any) -> None:
    told = drawing.evaluate(
        """async () => {
          const { Ansi, overwritten } = await import("/x/static/lib/ansi.js");
          const place = document.createElement("pre");
          const said = "10%\\r50%\\r100%\\n\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07\\x1b[2Jok";
          place.append(new Ansi().nodes(overwritten(said)));
          return [place.textContent, place.querySelector(".a-red").textContent];
        }"""
    )
    assert told == ["100%\nred ok", "red"]


@pytest.mark.slow
def test_a_huge_table_shows_its_first_rows(serve: Serve, visit: Visit) -> None:
    rows = [[n, f"row {n}", n / 7] for n in range(20_000)]
    table = {"type": "table", "title": "Many", "columns": ["n", "name", "part"], "rows": rows}
    assert len(json.dumps(table)) > 500_000
    url, id = stored(serve, [TASK, ("answer", {"envelope": table}), DONE])
    page = visit(f"{url}/#s/{id}")
    expect(page.locator(".answer tbody tr")).to_have_count(30)
    page.get_by_role("button", name="19,970 more rows").click()
    expect(page.locator(".answer tbody tr")).to_have_count(330)
