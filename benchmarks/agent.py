"""The agent beside stock smolagents: first step, tool calls, streaming, memory, prompt, start-up, many sessions.

`python -m benchmarks.agent`. Models are scripted and in process, so that only our own cost is measured; both sides use
the same embedded sandbox server. Parts that need a process of their own run as `python -m benchmarks.agent PART`.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.table import Row, show

ROOT = Path(__file__).parents[1]
MARK = "measured: "
DELTAS, STEPS, BLOCK = 8000, 200, 20_000
HELP_BAR, PROMPT_BAR, PEER_PROMPT = 0.4, 4000, 14_000


def code(text: str) -> str:
    return f"Next step.\n<code>\n{text}\n</code>"


class Scripted:
    """Answers from a list; each is streamed in `pieces` deltas."""

    window: int | None = 32_768

    def __init__(self, answers: list[str], pieces: int = 1):
        self.answers, self.pieces = list(answers), pieces

    def generate(self, messages: list[dict], *, on_delta=lambda k, p: None, cancel=None, stop_at="block") -> Any:  # type: ignore[no-untyped-def]
        from agent.models.base import Reply, Usage

        text = self.answers.pop(0)
        size = -(-len(text) // self.pieces)
        for start in range(0, len(text), size):
            on_delta("text", text[start : start + size])
        return Reply(text, "", Usage(100, 10, False), "stop", 0.0)


def settings(home: Path, **more: Any) -> Any:
    from agent.settings import load_settings

    return load_settings(home=str(home), sandbox="embedded", model="recipes", **more)


def new_session(home: Path, store: Any, model: Any, **more: Any) -> Any:
    from agent.policy import Mode
    from agent.session import Session

    session = Session.start(settings(home, **more), store, mode=Mode.YES, attended=False, cwd=ROOT)
    session.agent.model = model
    return session


def stock(answers: list[str], streaming: bool = False, **options: Any) -> Any:
    from smolagents import CodeAgent, Model
    from smolagents.models import ChatMessage, ChatMessageStreamDelta, MessageRole, TokenUsage

    class Stock(Model):
        def generate(self, messages: Any, **_: Any) -> ChatMessage:
            return ChatMessage(MessageRole.ASSISTANT, answers.pop(0), token_usage=TokenUsage(100, 10))

        def generate_stream(self, messages: Any, **_: Any) -> Iterator[ChatMessageStreamDelta]:
            text = answers.pop(0)
            size = -(-len(text) // DELTAS)
            for start in range(0, len(text), size):
                yield ChatMessageStreamDelta(content=text[start : start + size])

    return CodeAgent(tools=[], model=Stock(), stream_outputs=streaming, verbosity_level=0, **options)


# -- parts in this process ---------------------------------------------------------------------------------------------


def first_step(home: Path) -> list[Row]:
    """From the call of `run` to the end of step 1, both with the modules already imported and the server warm."""
    from agent.sandbox import daemon
    from agent.store import Store

    address = daemon.ensure(settings(home))
    options = {"api_key": address.key, "api_url": address.url, "sandbox_url": address.url}
    answers = [code("print(1)"), code("final_answer(1)")]

    def ours() -> float:
        with Store.open(home) as store:
            started = time.perf_counter()
            session = new_session(home, store, Scripted(answers))
            first = ended_step(session)
            session.run("go")
            session.executor.cleanup()
            session.close()
            return first[0] - started

    def theirs() -> float:
        started = time.perf_counter()
        agent = stock(list(answers), executor_type="e2b", executor_kwargs=dict(options))
        found = None
        for step in agent.run("go", stream=True):
            if type(step).__name__ == "ActionStep":
                found = time.perf_counter() - started
                break
        agent.cleanup()
        assert found
        return found

    pairs = [(ours(), theirs()) for _ in range(4)][1:]
    ratio = statistics.median(a / b for a, b in pairs)
    note = f"({statistics.median(a for a, _ in pairs):.2f} s and {statistics.median(b for _, b in pairs):.2f} s)"
    return [Row("start of run to the end of step 1", ratio, "x", 0.2, "stock smolagents", note)]


def ended_step(session: Any) -> list[float]:
    times: list[float] = []
    remember = session.agent.remember

    def mark(step: Any) -> None:
        times.append(time.perf_counter())
        remember(step)

    session.agent.remember = mark
    return times


def tool_calls(home: Path) -> list[Row]:
    """A free host tool called 200 times from one cell; the sandbox measures."""
    from agent.store import Store
    from agent.toolbox import Tool
    from tools.declare import Declaration

    def echo(text: str) -> dict:
        """Say it back."""
        return {"type": "text", "text": text}

    timing = (
        "import time, statistics\nspans = []\n"
        "for n in range(220):\n    t = time.perf_counter(); echo(text='x'); spans.append(time.perf_counter() - t)\n"
        "final_answer(str(statistics.median(spans[20:]) * 1000))"
    )
    with Store.open(home) as store:
        session = new_session(home, store, Scripted([code(timing)]))
        session.tools["echo"] = session.bridge.tools["echo"] = Tool("echo", echo, Declaration("free"))
        outcome = session.run("go")
        session.executor.cleanup()
        session.close()
    return [Row("host tool call from the sandbox, median", float(outcome.answer), "ms", 10)]


def prompt_size(home: Path) -> list[Row]:
    from agent.store import Store

    with Store.open(home) as store:
        session = new_session(home, store, Scripted([]))
        size = len(session.system_text("fine-tune a model on my data").encode()) / 4
        stock_size = len(stock([]).system_prompt.encode()) / 4
        session.executor.cleanup()
        session.close()
    note = f"(stock smolagents without tools {stock_size:.0f}, ml-intern {PEER_PROMPT})"
    return [Row("prompt before the person's text", size, "tok", PROMPT_BAR, note=note)]


def start_up() -> list[Row]:
    command = [sys.executable, "-m", "agent", "--help"]
    spans = []
    for _ in range(6):
        started = time.perf_counter()
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        spans.append(time.perf_counter() - started)
    return [Row("python -m agent --help", statistics.median(spans[1:]), "s", HELP_BAR)]


def many(home: Path, count: int = 50) -> list[Row]:
    """Sessions at once in this process; each must see its own number in each of its steps, and its own events only."""
    from agent.store import Store

    with Store.open(home) as store:

        def one(number: int) -> bool:
            answers = [code(f"x = {number}"), code("print('number', x)"), code("final_answer(str(x * 2))")]
            session = new_session(home, store, Scripted(answers, pieces=20), sandbox_max=count + 2)
            outcome = session.run(f"task {number}")
            printed = "".join(e.data["text"] for e in store.all(session.id) if e.type == "output")
            session.executor.cleanup()
            session.close()
            return outcome.answer == str(number * 2) and printed == f"number {number}\n"

        with ThreadPoolExecutor(count) as pool:
            right = sum(pool.map(one, range(count)))
    return [Row(f"{count} sessions at once, wrong", count - right, "", 0)]


# -- parts that need a process of their own ----------------------------------------------------------------------------


def part_stream_ours(home: Path) -> float:
    """CPU seconds of one answer of 8,000 deltas, from the model to events in the store and to one reader of them."""
    from agent.store import Store

    text = code("# " + "word " * DELTAS + "\nfinal_answer(1)")
    with Store.open(home) as store:
        session = new_session(home, store, Scripted([text], pieces=DELTAS))
        session.executor.ready()
        stop = threading.Event()
        reader = threading.Thread(target=lambda: [event.to_json() for event in store.follow(session.id, 0, stop)])
        reader.start()
        before = time.process_time()
        session.run("go")
        used = time.process_time() - before
        stop.set()
        reader.join()
        session.executor.cleanup()
        session.close()
    return used


def part_stream_stock(home: Path) -> float:
    from smolagents.gradio_ui import stream_to_gradio

    agent = stock([code("# " + "word " * DELTAS + "\nfinal_answer(1)")], streaming=True)
    before = time.process_time()
    for _ in stream_to_gradio(agent, "go"):
        pass
    return time.process_time() - before


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def part_memory_ours(home: Path) -> float:
    from agent.store import Store

    answers = [code(f"print('x' * {BLOCK}, {n})") for n in range(STEPS)] + [code("final_answer(1)")]
    with Store.open(home) as store:
        session = new_session(home, store, Scripted([code("print(1)"), code("final_answer(1)")]))
        session.run("warm up")
        before = resident()
        session.agent.model = Scripted(answers)
        session.run("go")
        grown = resident() - before
        session.executor.cleanup()
        session.close()
    return grown


def part_memory_stock(home: Path) -> float:
    answers = [code(f"print('x' * {BLOCK}, {n})") for n in range(STEPS)] + [code("final_answer(1)")]
    agent = stock(answers, max_steps=STEPS + 5, max_print_outputs_length=BLOCK + 100)
    warm = stock([code("print(1)"), code("final_answer(1)")])
    warm.run("warm up")
    before = resident()
    agent.run("go")
    return resident() - before


PARTS: dict[str, Callable[[Path], float]] = {
    name.removeprefix("part_"): function for name, function in list(globals().items()) if name.startswith("part_")
}


def apart(name: str, home: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.agent", name, str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    return float(done.stdout.rpartition(MARK)[2].split()[0])  # stock prints too, also after the end


def beside(what: str, name: str, bar: float, unit: str, home: Path) -> Row:
    ours, theirs = apart(f"{name}_ours", home), apart(f"{name}_stock", home)
    note = f"({ours:.2f} and {theirs:.2f} {unit})"
    return Row(what, max(ours, 0.0) / theirs, "x", bar, "stock smolagents", note)


def main() -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"
    if len(sys.argv) > 1:
        print(f"\n{MARK}{PARTS[sys.argv[1]](Path(sys.argv[2]))}\n", flush=True)
        return 0
    home = Path(tempfile.mkdtemp(prefix="bench-agent-"))
    home.chmod(0o755)
    rows = first_step(home) + tool_calls(home)
    rows.append(beside(f"{DELTAS:,} streamed deltas, CPU", "stream", 0.15, "s", home))
    rows.append(beside(f"memory after {STEPS} steps of 20 kB", "memory", 0.1, "MB", home))
    rows += prompt_size(home) + start_up() + many(home)
    os.kill(json.loads((home / "sandbox" / "server.json").read_text())["pid"], signal.SIGTERM)
    return show("agent", rows)


if __name__ == "__main__":
    sys.exit(main())
