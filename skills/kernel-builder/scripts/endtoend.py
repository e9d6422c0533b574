# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.22.2", "kernels==0.17.2"]
# ///
"""State 7, end to end: what the kernel brings in a model of the target's architecture, with layers and widths reduced.

Four ways, each in a process of its own: plain and with the kernel, eager and compiled; an opaque op can cost a compiled
model its fusions. Replaced layers are counted; logits are judged against float32. The clock is this process's.
"""

import argparse
import os
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import evidence
import torch
from arena import Arena
from candidate import Candidate, Died
from models import small
from project import Mistake, Project
from timing import Refused, good, spread

WAYS = {"eager": (False, False), "kernel": (True, False), "compiled": (False, True), "kernel + compiled": (True, True)}
TOKENS = {"prefill": 256, "one token": 1}
ROUNDS, TEXT = 9, 16


class EndToEnd:
    def __init__(self, project: Project, record: evidence.Record, device: str, rounds: int) -> None:
        self.project, self.record, self.device, self.rounds = project, record, device, rounds
        self.arena = Arena(64 << 20)
        self.seed = int.from_bytes(os.urandom(3), "little")

    def start(self, kernel: bool, compiled: bool, dtype: str) -> Candidate:
        told = {"kind": "model", "project": str(self.project.folder), "device": self.device, "seed": self.seed}
        told |= {"kernel": kernel, "compiled": compiled, "dtype": dtype, "threads": len(os.sched_getaffinity(0))}
        return Candidate(told, self.arena, self.project.work("endtoend") / "scratch")

    def run(self, label: str) -> None:
        dtype = self.project.spec["dtype"]
        with ExitStack() as held:
            exact = held.enter_context(self.start(False, False, "float32"))
            ways = {name: held.enter_context(self.start(*how, dtype)) for name, how in WAYS.items()}
            self.judge(label, exact, ways)
            self.time(label, ways)

    def judge(self, label: str, exact: Candidate, ways: dict[str, Candidate]) -> None:
        """Replaced layers, distance to float32, and the text."""
        told = good(ways["kernel"].ask(120, do="logits", **self.place()))
        replaced, expected = told["replaced"], told["expected"]
        count = "" if replaced == expected and replaced else f"{replaced} of {expected} layers were replaced"
        self.record.part(
            "layers replaced", "fail" if count else "pass", label, count, replaced=replaced, expected=expected
        )
        logits = {
            name: self.logits(one)
            for name, one in {"exact": exact, "eager": ways["eager"], "kernel": ways["kernel"]}.items()
        }
        off = {name: divergence(logits["exact"], logits[name]) for name in ("eager", "kernel")}
        same = (logits["exact"].argmax(-1) == logits["kernel"].argmax(-1)).double().mean().item()
        wrong = (
            ""
            if off["kernel"] <= 2 * off["eager"] + 1e-6
            else "its logits are further from float32 than the model's own"
        )
        numbers = {"kl_eager": off["eager"], "kl_kernel": off["kernel"], "top1_as_float32": round(same, 4)}
        self.record.part("logits against float32", "fail" if wrong else "pass", label, wrong, **numbers)
        text = {
            name: good(ways[name].ask(120, do="greedy", tokens=8, steps=TEXT))["text"] for name in ("eager", "kernel")
        }
        alike = text["eager"] == text["kernel"]
        self.record.part("greedy text", "pass", label, tokens=TEXT, same=alike)
        if not alike:
            self.record.find("warning", f"greedy text differs: {text['eager']} and {text['kernel']}")

    def place(self) -> dict[str, Any]:
        return {"tokens": 64, "place": {"offset": 0}}

    def logits(self, one: Candidate) -> torch.Tensor:
        good(one.ask(120, do="logits", **self.place()))
        width = small(self.project.spec["model"]["config"]).vocab_size
        return torch.frombuffer(self.arena.map, dtype=torch.float32, count=64 * width).view(64, width).double().clone()

    def time(self, label: str, ways: dict[str, Candidate]) -> None:
        share = good(ways["eager"].ask(120, do="share", tokens=TOKENS["prefill"], times=5))["share"]
        for phase, tokens in TOKENS.items():
            times: dict[str, list[float]] = {name: [] for name in ways}
            repeat = 1 if tokens > 1 else 8
            for one in ways.values():
                good(one.ask(400, do="forward", tokens=tokens, times=2))
            for _ in range(self.rounds):
                for name, one in ways.items():
                    one.timed(60, freeze=False, do="forward", tokens=tokens, times=1)
                    answer, took = one.timed(60, do="forward", tokens=tokens, times=repeat)
                    good(answer)
                    times[name].append(took / repeat * 1e6)
            told = {name: spread(found) for name, found in times.items()}
            base = told["eager"]["us"]
            table = {f"{name} x": round(base / one["us"], 3) for name, one in told.items()}
            numbers = {f"{name} us": one["us"] for name, one in told.items()} | table
            numbers |= {"share_of_time": round(share, 4)} if tokens > 1 else {}
            numbers |= {"rounds": self.rounds, "spread": statistics.median(one["spread"] for one in told.values())}
            self.record.part(phase, "pass", label, **numbers)
            if told["kernel + compiled"]["us"] > told["compiled"]["us"]:
                self.record.find(
                    "note", f"{phase}: compiled, the model is faster without the kernel: it blocks a fusion"
                )


def divergence(exact: torch.Tensor, other: torch.Tensor) -> float:
    """Mean KL divergence over positions, in nats."""
    a, b = exact.log_softmax(-1), other.log_softmax(-1)
    return float(f"{(a.exp() * (a - b)).sum(-1).mean().item():.4g}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(argv)
    try:
        project = Project.open(given.project)
        with evidence.recording("endtoend", project.folder) as record:
            states(project, record, given.rounds)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return evidence.told(given.project, "endtoend")


def states(project: Project, record: evidence.Record, rounds: int) -> None:
    model = project.spec.get("model")
    if not project.spec["layer"] or not model or not model["expected"]:
        record.part("model", "not_run", reason="the spec names no model with modules to replace")
        return
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu and project.variant("cuda") else "cpu"
    if not project.variant(device):
        record.part("model", "not_run", reason="there is no build for this machine. Run compile.py first.")
        return
    try:
        EndToEnd(project, record, device, rounds).run("measured-GPU" if device == "cuda" else "measured-CPU")
    except (Refused, Died) as why:
        record.part("model", "fail", "computed", str(why))
    if device == "cpu":
        record.part("GPU", "not_run", reason="there is no GPU here" if not gpu else "there is no CUDA build")


if __name__ == "__main__":
    sys.exit(main())
