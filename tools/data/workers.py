"""Scans parts in processes of our own, each with one core; small data is scanned right here.

Workers are plain subprocesses that speak pickle over their pipes, so it does not matter how the calling program was
started or how many threads it has. They end with the call; if the caller is killed, after the part they are at.
"""

import os
import pickle
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tools.context import ToolError, here
from tools.data.scan import Tally, Task, scan
from tools.data.source import Part

ROOT = Path(__file__).parents[2]
SMALL = 32 << 20
MOST = 8


def scan_all(task: Task, parts: list[Part], size: int) -> Tally:
    cores = min(cores_here(), MOST, len(parts))
    if size < SMALL or cores < 2:
        return scan_here(task, parts)
    context, total = here(), Tally()
    todo: queue.SimpleQueue[Part] = queue.SimpleQueue()
    done: queue.SimpleQueue[Tally | BaseException] = queue.SimpleQueue()
    for part in parts:
        todo.put(part)
    workers = [start() for _ in range(cores)]
    try:
        for worker in workers:
            threading.Thread(target=feed, args=(worker, task, todo, done), daemon=True).start()
        got = 0
        while got < len(parts):
            context.check()
            try:
                answer = done.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(answer, BaseException):
                raise answer
            total.merge(answer)
            got += 1
            context.progress(got / len(parts), f"{total.rows:,} rows looked at")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    return total


def cores_here() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scan_here(task: Task, parts: list[Part]) -> Tally:
    total = Tally()
    for part in parts:
        here().check()
        total.merge(scan(task, part))
    return total


def start() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tools.data.workers"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def feed(worker: subprocess.Popen[bytes], task: Task, todo: Any, done: Any) -> None:
    assert worker.stdin and worker.stdout
    while True:
        try:
            part = todo.get_nowait()
        except queue.Empty:
            return
        try:
            pickle.dump((task, part), worker.stdin)
            worker.stdin.flush()
            done.put(pickle.load(worker.stdout))
        except (EOFError, OSError, pickle.UnpicklingError, ValueError):
            done.put(ToolError(f"The process that read {part.path.name} died. There may be too little memory."))
            return


def serve() -> None:
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    while True:
        try:
            task, part = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: Any = scan(task, part)
        except ToolError as error:
            answer = error
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:  # nobody wants it any more
            os._exit(1)


if __name__ == "__main__":
    serve()
