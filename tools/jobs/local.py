"""Jobs on this machine: detached processes that outlive whoever started them.

A job is a session of its own with a small shell at its head. It writes the exit code when the command ends, so any
later process can tell how it went; without a code and without a process the job is lost. The command runs as this user
with all this user may do, so it is either a program whose text is known (trust.py) or one that puts another into the
jail and waits for its end (jailed.py).
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from tools.context import ToolError, here
from tools.hardware.offers import local_offer
from tools.jobs import JobRef, JobSpec, JobStatus, Offer
from tools.jobs.process import Process

LOG = "log.txt"
POLL = 0.2  # seconds between two looks at a log that is followed
TIMED_OUT, KILLED = 124, 137

# `timeout` makes a group of its own and passes a TERM on to all of it; the shell passes its own TERM on to `timeout`,
# but not before it is `timeout`: a shell's child that has not become its program yet would swallow it.
HEAD = """
log=$1 traces=$2 limit=$3 grace=$4; shift 4
stop() {
    asked=yes
    [ -n "$child" ] || return
    while read -r name < /proc/$child/comm && [ "$name" != timeout ]; do :; done 2> /dev/null
    kill -TERM $child 2> /dev/null
}
trap stop TERM INT HUP
date +%s.%N > "$traces/started"
timeout --signal=TERM --kill-after="$grace" "$limit" "$@" >> "$log" 2>&1 < /dev/null &
child=$!
[ -z "$asked" ] || stop
wait $child; code=$?
while kill -0 $child 2> /dev/null; do wait $child; code=$?; done
date +%s.%N > "$traces/ended"
echo $code > "$traces/rc.part" && mv "$traces/rc.part" "$traces/rc"
"""

# Of this process's environment a job gets what programs need to run here, and no account.
PASSED = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
PASSED |= {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE"}
PASSED |= {"HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "HF_HUB_DISABLE_XET"}
PASSED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "OMP_", "MKL_", "PYTORCH_")


class LocalRunner:
    name = "local"

    def offers(self) -> list[Offer]:
        one = local_offer()
        return [Offer("local", one.cpus, one.ram_gb, one.gpus, one.gpu, one.vram_gb or None, usd_per_hour=0.0)]

    def submit(self, spec: JobSpec) -> JobRef:
        if shutil.which("timeout") is None:
            raise ToolError("There is no `timeout` program here. Install GNU coreutils.")
        id = secrets.token_hex(6)
        traces = spec.folder / "jobs" / id
        traces.mkdir(parents=True)
        if (spec.folder / LOG).is_symlink():  # left by a job before: it must not lead this one's output elsewhere
            (spec.folder / LOG).unlink()
        argv = ["/bin/sh", "-c", HEAD, f"job-{id}", str(spec.folder / LOG), str(traces)]
        argv += [f"{spec.timeout_s:.3f}", f"{spec.grace_s:.3f}", *spec.command]
        quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        env = {**passed(), **spec.env, **spec.secrets}
        head = subprocess.Popen(argv, env=env, cwd=spec.folder, start_new_session=True, **quiet)
        where = {"folder": str(spec.folder), "timeout_s": spec.timeout_s, "process": Process.of(head.pid).to_json()}
        where |= {"lost_code": spec.lost_code}
        return JobRef(self.name, id, where)

    def status(self, ref: JobRef) -> JobStatus:
        traces, process = place(ref), Process.from_json(ref.where["process"])
        running = bool(process.members())  # asked before the code is read: it may end in between
        code, started, ended = number(traces / "rc"), number(traces / "started"), number(traces / "ended")
        asked = (traces / "cancelled").exists()
        if code is None and running:
            return JobStatus("running", message="asked to stop" if asked else "", started=started)
        if asked:
            return JobStatus("cancelled", as_code(code), "stopped on request", started, ended)
        if code is not None and code == ref.where.get("lost_code"):
            return JobStatus("lost", None, "its sandbox is gone", started, ended)
        if code is None:
            return JobStatus("lost", None, "its processes are gone and left no exit code", started, ended)
        if code == 0:
            return JobStatus("succeeded", 0, "", started, ended)
        return JobStatus("failed", as_code(code), self.why(ref, int(code), started, ended), started, ended)

    @staticmethod
    def why(ref: JobRef, code: int, started: float | None, ended: float | None) -> str:
        limit = ref.where["timeout_s"]
        over = started is not None and ended is not None and ended - started >= limit
        if code == TIMED_OUT and over:
            return f"stopped at its time limit of {limit:g} seconds"
        if code == KILLED and over:
            return f"killed after its time limit of {limit:g} seconds: it did not stop when it was asked to"
        if code > 128:
            return f"killed by {signal_name(code - 128)}"
        return f"ended with exit code {code}"

    def logs(self, ref: JobRef, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        path = Path(ref.where["folder"]) / LOG
        if not follow:
            yield from last_lines(path, tail)
            return
        position, rest = 0, ""
        while True:
            over = self.status(ref).over  # looked at before the read, so that the last lines are not missed
            if path.exists():
                with opened(path) as file:
                    file.seek(position)
                    rest += file.read().decode(errors="replace")
                    position = file.tell()
            *lines, rest = rest.split("\n")
            yield from (lines if tail is None else lines[-tail:] if tail else [])
            tail = None  # of what was there at first
            if over:
                if rest:
                    yield rest
                return
            here().check()
            time.sleep(POLL)

    def cancel(self, ref: JobRef) -> None:
        if self.status(ref).over:
            return
        (place(ref) / "cancelled").touch()
        process = Process.from_json(ref.where["process"])
        for pid in [process.pid] if process.alive() else process.members():  # all of them when its head is gone
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass  # it ended by itself


def passed() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in PASSED or name.startswith(PASSED_PREFIXES)}


def place(ref: JobRef) -> Path:
    return Path(ref.where["folder"]) / "jobs" / ref.id


def number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # not there, or not written to the end
        return None


def as_code(code: float | None) -> int | None:
    return None if code is None else int(code)


def signal_name(value: int) -> str:
    try:
        return signal.Signals(value).name
    except ValueError:
        return f"signal {value}"


def last_lines(path: Path, tail: int | None) -> list[str]:
    if not path.exists():
        return []
    with opened(path) as file:
        last = file if tail is None else deque(file, tail)
        return [line.decode(errors="replace").rstrip("\n") for line in last]


def opened(path: Path) -> BinaryIO:
    """A log; of a link that the job has put in its place, only that it is one."""
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as problem:
        return BytesIO(f"The log cannot be read: {problem.strerror}.\n".encode())
