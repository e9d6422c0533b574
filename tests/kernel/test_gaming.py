"""Kernels that try to look right or fast without being it; each known way is refused, and an honest one is not."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.kernel.bench import PATTERNS, Arena, Candidate, Judge, Trial, load_module, parse, table  # isort: skip
import cheats
import torch
from microbench import Microbench
from timing import Bench, Refused, Runner, measure

HONEST = "p = torch.softmax(x.double(), -1).to(x.dtype); out.copy_(p)"


class Play:
    """A package for softmax whose op is a few lines of Python, in front of the judge and of the clock."""

    def __init__(self, folder: Path, body: str, top: str = "", public: str = "") -> None:
        self.folder, self.truth = folder, load_module("oracle", PATTERNS / "softmax" / "oracle.py")
        self.schema = parse(self.truth.SCHEMA)
        spec = {"name": "play", "op": "softmax", "schema": self.truth.SCHEMA, "pattern": "softmax"}
        (folder / "kernel.json").write_text(json.dumps(spec))
        build = folder / "build" / "v"
        build.mkdir(parents=True)
        (folder / "evidence").mkdir()
        lines = "\n    ".join(body.split("; "))
        public = public or "def softmax(x):\n    out = torch.empty_like(x)\n    ops.softmax(out, x)\n    return out"
        op = f"seen = {{}}\ndef op(out, x):\n    {lines}\nops = types.SimpleNamespace(softmax=op)\n"
        (build / "_ops.py").write_text(f"import torch, types\n{top}\n{op}")
        (build / "__init__.py").write_text(f"import torch\nfrom ._ops import ops\n{public}\n")
        self.arena = Arena(1 << 26)

    def start(self, **more) -> Candidate:
        told = {
            "kind": "package",
            "project": str(self.folder),
            "variant": str(self.folder / "build" / "v"),
            "threads": 1,
        }
        return Candidate(told | more, self.arena, self.folder / ".work")

    def judged(self, function: bool = False) -> str | None:
        trial = Trial(self.schema, self.arena, Judge(self.truth))
        cases = [case for case in table(self.truth, 5, ["float32", "bfloat16"]) if case.elements < 9000]
        with self.start() as kernel:
            return trial.functions(kernel, cases[:3]) if function else trial.run(kernel, cases)

    def clocked(self, **more) -> dict:
        bench = Bench(self.truth, self.schema, self.arena, {"rows": 64, "D": 1024}, torch.bfloat16, 7)
        baseline = {"kind": "baseline", "oracle": self.truth.__file__, "threads": 1} | more
        with self.start(**more) as kernel, Candidate(baseline, self.arena, self.folder / ".work") as alone:
            runners = [Runner("kernel", kernel, "raw"), Runner("eager", alone, "eager")]
            return measure(bench, runners, 3, device=bool(more))


@pytest.mark.slow
def test_an_honest_kernel_passes_judge_and_clock(tmp_path):
    play = Play(tmp_path, HONEST)
    assert play.judged() is None
    assert play.judged(function=True) is None
    assert 0 < play.clocked()["kernel"]["us"] < 1e6


LATE = f"""
import threading, time
def later(out, x):
    time.sleep(0.05)
    {HONEST}
"""


def test_work_left_to_a_background_thread_is_not_there_when_the_bytes_are_read(tmp_path):
    play = Play(tmp_path, "threading.Thread(target=later, args=(out, x)).start()", LATE)
    assert "nan" in play.judged()
    with pytest.raises(Refused, match="had not written"):
        play.clocked()


def test_a_tensor_class_that_computes_when_it_is_compared_is_refused(tmp_path):
    lazy = "class Lazy(torch.Tensor): pass\ndef softmax(x):\n    return torch.softmax(x, -1).as_subclass(Lazy)"
    assert "not plain tensors" in Play(tmp_path, HONEST, public=lazy).judged(function=True)


@pytest.mark.slow
def test_patched_timers_change_nothing(tmp_path):
    top = "import time; sleep = time.sleep; time.perf_counter = time.monotonic = time.time = lambda: 0.0"
    assert Play(tmp_path, f"sleep(0.002); {HONEST}", top).clocked()["kernel"]["us"] > 2000


def test_results_kept_by_pointer_are_found_out(tmp_path):
    body = "key = x.data_ptr(); key in seen or seen.update({key: torch.softmax(x.double(), -1).to(x.dtype)}); "
    body += "out.copy_(seen[key])"
    with pytest.raises(Refused, match="wrong result"):
        Play(tmp_path, body).clocked()


@pytest.mark.slow
def test_an_output_that_is_left_as_it_was_is_found_out(tmp_path):
    body = f"key = out.data_ptr(); known = key in seen; seen[key] = 1\n    if known: return; {HONEST}"
    with pytest.raises(Refused, match="had not written"):
        Play(tmp_path, body).clocked()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("pass", marks=pytest.mark.slow),  # what was left there
        "out.zero_()",  # within 1e-2 of every wide softmax
        pytest.param("out.fill_(1.0 / x.shape[-1])", marks=pytest.mark.slow),
        pytest.param("out.copy_(torch.softmax(x.half(), -1).to(x.dtype))", marks=pytest.mark.slow),  # silently shorter
        pytest.param(
            "out.copy_(torch.softmax(x, -1)) if x.shape[-1] % 2 == 0 else out.zero_()", marks=pytest.mark.slow
        ),  # the shapes somebody would try
        pytest.param(
            "torch.manual_seed(0); out.copy_(torch.softmax(torch.randn(x.shape), -1))", marks=pytest.mark.slow
        ),  # the seed somebody would take
        pytest.param("x.copy_(torch.softmax(x, -1)); out.copy_(x)", marks=pytest.mark.slow),  # in place of the input
    ],
)
def test_garbage_and_special_cases_are_wrong(tmp_path, body):
    assert Play(tmp_path, body).judged()


def test_the_kernels_process_cannot_write_where_evidence_lies(tmp_path):
    target = tmp_path / "evidence" / "numerics.json"
    play = Play(tmp_path, f"{HONEST}; open({str(target)!r}, 'w').write('pass')")
    with play.start() as kernel:
        if kernel.unconfined:
            pytest.skip(kernel.unconfined)
    assert "PermissionError" in play.judged()
    assert not target.exists()


def test_a_time_below_that_of_moving_the_bytes_is_refused():
    work = Microbench.__new__(Microbench)
    work.project = type("P", (), {"spec": {"target": {"name": "CPU"}}})

    def times(**best: float) -> dict:  # medians rise with a machine's load, the best of many hardly
        return {name: {"us": value * (1.4 if name == "copy" else 1), "best": value} for name, value in best.items()}

    with pytest.raises(Refused, match="faster than memory"):
        work.too_fast(times(copy=10.0, kernel=4.0, function=6.0), {}, "cpu")
    with pytest.raises(Refused, match="the op that it calls"):
        work.too_fast(times(copy=10.0, kernel=12.0, function=6.0), {}, "cpu")
    work.too_fast(times(copy=10.0, kernel=7.0, function=6.0), {}, "cpu")
    held_up = {"kernel": {"us": 30.0, "best": 7.0}}
    work.too_fast(times(copy=10.0, function=6.0) | held_up, {}, "cpu")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("softmax_cuda/k.cuh", "void f() { cublasSgemm(h); }", cheats.WORK),
        ("softmax_cpu/k.cpp", "auto y = at::softmax(x, -1);", cheats.WORK),
        ("softmax_cpu/k.cpp", "std::thread(work).detach();", cheats.THREADS),
        ("softmax_cuda/k.cu", "cudaStreamCreate(&mine);", cheats.STREAMS),
        ("softmax_cpu/k.cpp", "static std::unordered_map<void*, float> kept;", cheats.KEEP),
        ("torch-ext/play/functions.py", "import torch\ndef f(x):\n    return torch.softmax(x, -1)", "for the work"),
        ("torch-ext/play/functions.py", "import time\ntime.perf_counter = lambda: 0", "replaces time.perf_counter"),
        ("torch-ext/play/functions.py", "import torch\nclass Lazy(torch.Tensor): pass", "tensor class"),
    ],
)
def test_sources_that_let_others_do_the_work_are_found(tmp_path, file, text, said):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    project = type("P", (), {"folder": tmp_path, "op": "softmax"})
    assert any(said in one for one in cheats.found(project)), cheats.found(project)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Path:
    library = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    source = Path(__file__).parent / "stand_in_cudart.c"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-w", "-o", library, source], check=True, timeout=60)
    return library


@pytest.mark.slow
def test_the_gpus_clock_flushes_times_and_agrees_with_ours(tmp_path, stand_in):
    found = Play(tmp_path, f"sleep(0.003); {HONEST}", "from time import sleep").clocked(cudart=str(stand_in))
    assert found["kernel"]["us"] > 3000
    assert found["kernel"]["wall_us"] > 3000


def test_work_on_another_stream_is_found_by_the_clock_outside(tmp_path, stand_in):
    top = f"""
import ctypes, time
runtime = ctypes.CDLL({str(stand_in)!r})
kept = []
def elsewhere(out, x):
    def work():
        time.sleep(0.003)
        {HONEST}
    kept.append(ctypes.CFUNCTYPE(None)(work))
    runtime.stand_in_other_stream(kept[-1])
"""
    with pytest.raises(Refused, match="elsewhere"):
        Play(tmp_path, "elsewhere(out, x)", top).clocked(cudart=str(stand_in))
