"""The audit of a million chat rows: seconds, rows a second beside plain `datasets` with a Python loop, peak memory.

`python -m benchmarks.data [rows]`. The data is made with a fixed seed in a temporary folder and removed. Memory is that
of all processes of the audit together, read from the system while it runs; so both audits run as children of their own.
Processor seconds and the machine's load stand beside the seconds: on a busy machine only they can be compared.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, show

ROOT = Path(__file__).parents[1]
ROWS, SLICE = 1_000_000, 50_000
SECONDS, MEGABYTES, GROWTH = 90, 1500, 1.15
AUDIT = "from tools.datasets import inspect_dataset as look; print(look({path!r})['rows'])"
BASELINE = """
import hashlib, re
from datasets import load_dataset
data = load_dataset("json", data_files={path!r}, split="train", cache_dir={cache!r})
seen, lengths, twice, empty, private = set(), [], 0, 0, 0
mail = re.compile(r"[\\w.+-]+@[\\w-]+[.][\\w.]+")
for row in data:
    text = "\\n".join(message["content"] for message in row["messages"])
    key = hashlib.md5(text.encode()).digest()
    twice += key in seen
    seen.add(key)
    lengths.append(len(text))
    empty += not all(message["content"].strip() for message in row["messages"])
    private += bool(mail.search(text))
print(len(lengths), twice, empty, private)
"""


def write(path: Path, rows: int) -> None:
    """Two to six messages a row, one row in 100 a repeat, one in 10,000 broken, one in 1,000 with an address."""
    random.seed(11)
    words = ["".join(random.choices("etaoinshrdlucmfw", k=random.randint(2, 9))) for _ in range(20_000)]
    kept: list[str] = []
    with path.open("w") as file:
        for number in range(rows):
            if kept and number % 100 == 99:
                line = random.choice(kept)
            else:
                messages = []
                for turn in range(random.choice((2, 2, 2, 4, 6))):
                    said = " ".join(random.choices(words, k=random.randint(6, 42)))
                    messages.append({"role": ("user", "assistant")[turn % 2], "content": said})
                if number % 1000 == 500:
                    messages[0]["content"] += f" write to {words[number % 20_000]}@mail.{words[7]}.com"
                line = json.dumps({"id": number % 1000, "messages": messages})
            if len(kept) < 5000:
                kept.append(line)
            file.write(line[:-20] if number % 10_000 == 5000 else line)
            file.write("\n")


def run(code: str) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak megabytes of a Python program with all its children."""
    started, used = time.perf_counter(), processor()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    peak = 0.0
    while True:
        try:
            child.wait(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, memory(child.pid))
    if child.returncode:
        raise SystemExit(f"the measured program failed with {child.returncode}")
    return time.perf_counter() - started, processor() - used, peak


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(pid: int) -> float:
    """Resident megabytes of a process and its children."""
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def main() -> int:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory(prefix="data-") as name:
        folder = Path(name)
        once, twice, small = folder / "once.jsonl", folder / "twice.jsonl", folder / "slice.jsonl"
        write(once, rows)
        with once.open("rb") as given, small.open("wb") as taken:
            taken.writelines(line for line, _ in zip(given, range(SLICE), strict=False) if line.endswith(b"}\n"))
        size = once.stat().st_size / 1e6
        _, plain_used, _ = run(BASELINE.format(path=str(small), cache=str(folder / "cache")))
        seconds, used, peak = run(AUDIT.format(path=str(once)))
        load = os.getloadavg()[0]
        write(twice, rows * 2)
        _, _, more = run(AUDIT.format(path=str(twice)))
    busy = f"{used:.0f} s of processor, load {load:.0f} on {os.cpu_count()} cores"
    rate, plain_rate = rows / used, SLICE / plain_used
    return show(
        "data",
        [
            Row(f"audit of {rows:,} chat rows", seconds, "s", SECONDS, note=f"{size:,.0f} MB, {busy}"),
            Row(
                "processor seconds a row",
                plain_rate / rate,
                "x",
                2,
                "datasets and a loop",
                f"{rate:,.0f} rows a second of one core",
            ),
            Row("peak memory, all processes", peak, "MB", MEGABYTES),
            Row("peak memory at twice the rows", more / peak, "x", GROWTH, "that", f"{more:,.0f} MB"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
