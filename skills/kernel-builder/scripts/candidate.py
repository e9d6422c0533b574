"""The judge's end of a worker: starts it, asks it to call the kernel, freezes it while its results are read.

`Candidate.ask` returns the worker's answer; a death becomes a `Died` with what the process said last (a sanitizer's
report, a signal). After an answer the process stands still (SIGSTOP) until the next question: what it left to a thread
or a stream in the background is not finished when the bytes are read.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arena import Arena

WORKER = Path(__file__).resolve().parent / "worker.py"


class Died(Exception):
    """The kernel's process ended; says how."""


class Silent(Died):
    """It did not answer in time."""


class Candidate:
    def __init__(self, told: dict, arena: Arena, scratch: Path, env: dict[str, str] | None = None) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self.home = Path(tempfile.mkdtemp(dir=scratch))
        self.last: Path = self.home / "said"
        requests, self._ask = os.pipe()
        self._answers, replies = os.pipe()
        told = told | {"writable": [str(self.home)]}
        inherited = (requests, replies, arena.descriptor)
        with self.last.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(WORKER), *map(str, inherited), json.dumps(told)],
                pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=self.home,
                start_new_session=True,
                env=environment(self.home) | (env or {}),
            )  # fmt: skip
        os.close(requests)
        os.close(replies)
        self._pending, self.ended = b"", False
        self.ready = self._read(180)
        if not self.ready.get("ready"):
            error = self.ready.get("error", "the kernel could not be loaded")
            self.end()
            raise Died(error)
        self.unconfined = self.ready.get("unconfined")

    def ask(self, seconds: float = 60, **request) -> dict:
        """The answer to one request; the process is stopped when this returns."""
        answer, _ = self.timed(seconds, **request)
        return answer

    def timed(self, seconds: float = 60, freeze: bool = True, **request) -> tuple[dict, float]:
        """The answer, and how long it took by this process's clock. Without `freeze` the process goes on waiting."""
        line = (json.dumps(request) + "\n").encode()
        self._signal(signal.SIGCONT)
        began = time.perf_counter()
        try:
            os.write(self._ask, line) if len(line) < 4096 else self._write(line)
        except BrokenPipeError:
            raise Died(self._death()) from None
        answer = self._read(seconds)
        took = time.perf_counter() - began
        if freeze:
            self._signal(signal.SIGSTOP)
        return answer, took

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._ask, line) :]

    def _read(self, seconds: float) -> dict:
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as ready:
            ready.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not ready.select(max(0, until - time.monotonic())):
                    self.end()
                    raise Silent(f"no answer within {seconds:.0f} s")
                got = os.read(self._answers, 65536)
                if not got:
                    raise Died(self._death())
                self._pending += got
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def _death(self) -> str:
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        said = self.last.read_text(errors="replace") if self.last.exists() else ""
        for line in said.splitlines():
            if line.startswith("MEMORY: "):
                return line.removeprefix("MEMORY: ")
            if "ERROR: AddressSanitizer" in line or "runtime error:" in line:
                told = line.partition("ERROR: ")[2] or line.partition("runtime error: ")[2]
                return f"{told.split(' at pc')[0]} ({where(said)})".replace(" ()", "")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the kernel's process ended: {name}. {' '.join(said.split())[-300:]}".strip()

    def _signal(self, which: signal.Signals) -> None:
        """To the process and all it started."""
        try:
            os.killpg(self.process.pid, which)
        except ProcessLookupError:
            pass  # its end is told when the answer is read

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        os.close(self._ask)
        os.close(self._answers)
        self._signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> "Candidate":
        return self

    def __exit__(self, *_) -> None:
        self.end()


def where(said: str) -> str:
    """The line of the kernel in a sanitizer's report."""
    for line in said.splitlines():
        if (
            "kernel.so" not in line
            and any(mark in line for mark in (".cuh:", ".h:", "runtime error"))
            and "emulator" not in line
        ):
            found = [word for word in line.replace(": runtime", " ").split() if ".cuh:" in word or ".h:" in word]
            if found:
                return found[-1].rpartition("/")[2]
    return ""


def environment(home: Path) -> dict[str, str]:
    """What a worker sees: no settings of the person's, caches in its scratch folder."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        if name in os.environ
    }
    return kept | {
        "HOME": str(home), "TMPDIR": str(home), "TORCHINDUCTOR_CACHE_DIR": str(home / "inductor"),
        "TRITON_CACHE_DIR": str(home / "triton"), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1",
        "LANG": "C.UTF-8",
    }  # fmt: skip
