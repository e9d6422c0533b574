# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "kernels==0.17.2"]
# ///
"""State 6, micro-benchmark: the kernel beside eager torch, torch's own function, torch.compile, a published kernel.

Sizes are the spec's. The clock is this process's, the kernel and the baselines live in others; a result that is wrong,
late or faster than memory allows is refused and fails the state. Being slow does not fail it: that is told.
"""

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import evidence
import torch
from arena import Arena
from candidate import Candidate, Died
from project import Mistake, Project
from timing import ROUNDS, Bench, Refused, Runner, measure

MOST_BYTES = 96 << 20  # of one call's tensors; more rows are left away, and that is said
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}  # memory is used again, whatever its size


def fitting(size: dict, truth: Any, dtype: torch.dtype) -> dict:
    """The size, or one with fewer rows."""
    key = next((name for name in ("rows", "tokens") if name in size), None)
    while True:
        with torch.device("meta"):
            cost = truth.cost(**truth.make(size, dtype, None))
        if cost["bytes"] <= MOST_BYTES or key is None or size[key] < 2:
            return size
        size = {**size, key: size[key] // 2}


class Microbench:
    def __init__(
        self, project: Project, record: evidence.Record, rounds: int, hub: str | None, cudart: str | None
    ) -> None:
        self.project, self.record, self.rounds, self.hub, self.cudart = project, record, rounds, hub, cudart
        self.truth = project.truth()
        self.scratch = project.work("microbench") / "scratch"
        self.arena = Arena(512 << 20)

    def start(self, told: dict) -> Candidate:
        extra = KEPT | {
            name: os.environ[name] for name in ("HF_HOME", "HF_HUB_CACHE", "LOCAL_KERNELS") if name in os.environ
        }
        return Candidate(
            told | {"threads": len(os.sched_getaffinity(0)), "cudart": self.cudart}, self.arena, self.scratch, extra
        )

    def device(self, device: str, variant: Path, label: str) -> None:
        dtype = getattr(torch, self.project.spec["dtype"])
        told = {"kind": "package", "project": str(self.project.folder), "variant": str(variant), "device": device}
        oracle = {"kind": "baseline", "oracle": self.truth.__file__, "device": device}
        with ExitStack() as held:
            kernel, alone = (held.enter_context(self.start(one)) for one in (told, oracle))
            ways = {"kernel": (kernel, "raw"), "function": (kernel, "function")}
            ways |= {which: (alone, which) for which in ("eager", "compiled", "copy")}
            if getattr(self.truth, "functional", None):
                ways["functional"] = (alone, "functional")
            if self.hub:
                ways["hub"] = (held.enter_context(self.published(device)), "function")
            for row in self.project.spec["sizes"]:
                size = fitting(row["size"], self.truth, dtype)
                name = f"{device.upper()} {row['phase']} {' '.join(f'{k}={v}' for k, v in size.items())}"
                if size != row["size"]:
                    self.record.find("note", f"{name}: fewer rows than the model's, to fit into memory")
                bound = row["bound_us"] if size == row["size"] else None
                self.one(name, label, row | {"size": size, "bound_us": bound}, dtype, ways, device)

    def published(self, device: str) -> Candidate:
        repo, _, function = self.hub.partition(":")
        try:
            return self.start({"kind": "hub", "repo": repo, "function": function or self.project.op, "device": device})
        except Died as why:
            raise Mistake(
                f"The published kernel {self.hub} cannot be called: {why}. It must lie in the Hub's cache here, or be "
                "named in LOCAL_KERNELS, and have that function."
            ) from None

    def one(
        self, name: str, label: str, row: dict, dtype: torch.dtype, ways: dict[str, tuple[Candidate, str]], device: str
    ) -> None:
        seed = int.from_bytes(os.urandom(6), "little")
        bench = Bench(self.truth, self.project.schema, self.arena, row["size"], dtype, seed)
        runners = [Runner(key, *way) for key, way in ways.items()]
        try:
            found = measure(bench, runners, self.rounds, bool(self.cudart) or device == "cuda")
            self.too_fast(found, row, device)
        except (Refused, Died) as why:
            self.record.part(name, "fail", label, str(why))
            return
        times = {key: told["us"] for key, told in found.items()}
        quickest = min(times["kernel"], times["function"])
        numbers = {
            "kernel_us": times["kernel"],
            "function_us": times["function"],
            **{f"{key}_us": value for key, value in times.items() if key not in ("kernel", "function")},
            "x_eager": round(times["eager"] / times["function"], 2),
            "x_compiled": round(times["compiled"] / times["function"], 2),
            "bytes": bench.cost["bytes"],
            "gb_per_s": round(bench.cost["bytes"] / quickest / 1000, 1),
            "calls_a_batch": bench.timed,
            "rounds": self.rounds,
            "spread": {key: told["spread"] for key, told in found.items()},
        }
        self.record.part(name, "pass", label, **numbers)
        for other in ("eager", "compiled"):
            if times[other] < times["function"]:
                own = times["function"]
                self.record.find("warning", f"{name}: slower than {other}, {own} against {times[other]} µs")

    def too_fast(self, found: dict, row: dict, device: str) -> None:
        """Nothing moves its bytes in half the time of the quickest copy of them, nor below a card's bandwidth."""
        bound = found["copy"]["best"] / 2
        card = self.project.spec["target"]
        here = torch.cuda.is_available() and card["name"].lower() in torch.cuda.get_device_name(0).lower()
        if device == "cuda" and here and row.get("bound_us"):
            bound = max(bound, row["bound_us"])
        for name in ("kernel", "function"):
            if found[name]["us"] < bound:
                raise Refused(
                    f"{name}: {found[name]['us']} µs is faster than memory, which takes {bound:.3f} µs: "
                    "it does not do the work"
                )
        function, op = found["function"]["us"], found["kernel"]["best"]
        if function < 0.7 * op:
            raise Refused(f"the function takes {function} µs, the op that it calls {op}: it does not do the work")


def bench(project: Project, record: evidence.Record, rounds: int, hub: str | None, cudart: str | None) -> None:
    work = Microbench(project, record, rounds, hub, cudart)
    cpu, cuda, gpu = project.variant("cpu"), project.variant("cuda"), torch.cuda.is_available()
    if cpu:
        work.device("cpu", cpu, "measured-CPU")
    elif project.cpu_sources():
        record.part("CPU", "not_run", reason="there is no CPU build. Run compile.py first.")
    if cuda and gpu:
        work.device("cuda", cuda, "measured-GPU")
    elif project.cuda_source() is not None:
        record.part(
            "GPU", "not_run", reason="there is no CUDA build. Run compile.py first." if gpu else "there is no GPU here"
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--hub", help="a published kernel that lies here already: org/name:function")
    parser.add_argument("--cudart", help="time by this library's events, as on a GPU (to try that path without one)")
    given = parser.parse_args(argv)
    try:
        project = Project.open(given.project)
        with evidence.recording("microbench", project.folder) as record:
            bench(project, record, given.rounds, given.hub, given.cudart)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return evidence.told(given.project, "microbench")


if __name__ == "__main__":
    sys.exit(main())
