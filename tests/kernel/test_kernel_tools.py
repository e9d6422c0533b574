"""The agent's tools for kernels: what they refuse, what the jail is lent, and a sentence from start to report."""

import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from agent.models.errors import ModelError
from agent.models.recipes import Recipes
from agent.models.recipes.kernels import KERNEL
from agent.sandbox.jail import SandboxJail
from agent.settings import load_settings
from tests.conftest import Cli
from tools import envelope, kernels
from tools.context import Context, Detached, Ended, ToolError, inside
from tools.kernel import place, states


class Ledger:
    """Stands where the jail is and only writes down what it was asked to run, and what it was lent."""

    def __init__(self) -> None:
        self.asked: list[tuple[Path, list[str], list[Path]]] = []

    def run(self, folder: Path, command: Sequence[str], *, reads: Sequence[Path] = (), **more: Any) -> Ended:
        self.asked.append((folder, list(command), list(reads)))
        state = Path(command[1]).stem
        (folder / "evidence").mkdir(exist_ok=True)
        told = {"state": state, "status": "pass", "reason": "", "parts": [], "numbers": {}, "findings": []}
        (folder / "evidence" / f"{state}.json").write_text(json.dumps(told))
        (folder / "kernel.json").write_text('{"pattern": "rms_norm"}')
        return Ended("exited", 0, 0.1, "")

    def detached(
        self, folder: Path, command: Sequence[str], *, env: Mapping[str, str], reads: Sequence[Path]
    ) -> Detached:
        raise NotImplementedError


def agent(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", *words]
    return subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=850, check=False)


def test_without_a_sandbox_nothing_is_made(tmp_path: Path) -> None:
    with inside(Context(home=tmp_path)), pytest.raises(ToolError, match="not run on the host itself"):
        kernels.new_kernel("rms_norm", "H100")


def test_the_jail_is_lent_skill_spec_and_sources_beside_the_project(tmp_path: Path) -> None:
    ledger = Ledger()
    with inside(Context(home=tmp_path, jail=ledger)):
        kernels.new_kernel("RMSNorm", "H100", sources={"kernel.cuh": "// mine\n"})
        kernels.build_kernel("rms-norm")
        kernels.check_kernel("rms-norm")
    folder = tmp_path / "kernels" / "rms-norm"
    assert [Path(command[1]).stem for _, command, _ in ledger.asked] == [
        "spec", "scaffold", "scaffold", "compile", "numerics", "load",
    ]  # fmt: skip
    for where, command, reads in ledger.asked:
        assert where == folder and command[0] == sys.executable and command[2] == str(folder)
        assert {place.SKILL, folder / "sources"} <= set(reads)
        assert (folder / "kernel.json" in reads) == (Path(command[1]).stem != "spec")


@pytest.mark.parametrize(
    ("op", "sources", "said"),
    [
        ("attention", None, "not among the worked ops"),
        ("rms_norm", {"oracle.py": "x = 1"}, "oracle of rms_norm is the skill's"),
        ("rms_norm", {"../../x": "y"}, "no source you can give"),
        ("rms_norm", {"kernel.cuh": "x" * 300_000}, "at most"),
    ],
)
def test_what_a_tool_cannot_take_is_told(op: str, sources: dict[str, str] | None, said: str, tmp_path: Path) -> None:
    with inside(Context(home=tmp_path, jail=Ledger())), pytest.raises(ToolError, match=re.escape(said)):
        kernels.new_kernel(op, "H100", sources=sources)


def test_evidence_behind_a_link_is_not_read(tmp_path: Path) -> None:
    told = json.dumps({"status": "pass", "reason": "", "parts": []})
    (tmp_path / "secret.json").write_text(told)
    (tmp_path / "p" / "evidence").mkdir(parents=True)
    (tmp_path / "p" / "evidence" / "load.json").symlink_to(tmp_path / "secret.json")
    assert place.evidence(tmp_path / "p", "load") is None
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "evidence").symlink_to(tmp_path / "p" / "evidence")
    (tmp_path / "p" / "evidence" / "spec.json").write_text(told)
    assert place.evidence(tmp_path / "p", "spec") and place.evidence(tmp_path / "q", "spec") is None


@pytest.mark.parametrize(
    ("task", "op", "target", "model"),
    [
        ("Build a vectorized RMSNorm kernel for H100 targeting Qwen3-8B.", "rms_norm", "H100", "Qwen3-8B"),
        ("build a softmax kernel for A100", "softmax", "A100", None),
        ("write a fused CUDA layer norm kernel for the RTX 4090 targeting openai-community/gpt2 and benchmark it",
         "layer_norm", "RTX 4090", "openai-community/gpt2"),
        ("make me a SwiGLU kernel for CPU", "silu_mul", "CPU", None),
        ("Build a quantised GEMV kernel for T4, then measure it", "gemv_q8", "T4", None),
        ("please build a cross-entropy kernel for B200 targeting Qwen3-14B!", "cross_entropy", "B200", "Qwen3-14B"),
    ],
)  # fmt: skip
def test_a_sentence_names_op_card_and_model(task: str, op: str, target: str, model: str | None) -> None:
    found = KERNEL.search(task)
    assert found and (place.pattern_of(found["op"]), found["target"], found["model"]) == (op, target, model)


@pytest.mark.parametrize(
    ("failing", "verdict", "ends"),
    [
        ("new_kernel", None, "Failed: new_kernel. Mend it"),
        ("build_kernel", "NOT READY", "Failed: build_kernel. Mend it"),
        ("benchmark_kernel", "NOT READY", "Failed: benchmark_kernel. Mend it"),
        ("", "NOT READY", "my-kernel is not ready"),  # by a state of an earlier day
        ("", "UNPROVEN", None),
        ("", "CHECKED WITHOUT A GPU", None),
    ],
)
def test_a_failed_state_fails_the_run_and_one_that_did_not_run_here_does_not(
    failing: str, verdict: str | None, ends: str | None
) -> None:
    def state(name: str) -> Any:
        note = f"warning: w\nFailed: {name}. Mend it and try again." if name == failing else "Next: ..."
        more = {"kernel": "my-kernel", "passed": name != failing, "states": {}}
        return lambda *given, **named: envelope.table(name, ["", "", "", "", ""], [], note, **more)

    shown: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    names: dict[str, Any] = {name: state(name) for name in kernels.__dict__ if name.endswith("_kernel")}
    names |= {"kernel_report": lambda kernel: envelope.report("# r", verdict=verdict)}
    names |= {"show": shown.append, "final_answer": answers.append}
    messages = [{"role": "user", "content": "Task:\nBuild a softmax kernel for A100 and benchmark it"}]

    def until_the_end() -> None:
        while not answers:
            code = Recipes().generate(messages).text.partition("<code>")[2].partition("</code>")[0]
            with redirect_stdout(StringIO()) as said:
                try:
                    exec(code, names)
                except Exception:
                    print(traceback.format_exc())
            messages.append({"role": "user", "content": f"Output:\n{said.getvalue()}"})

    if ends is None:
        until_the_end()
        assert answers[0]["verdict"] == verdict
        return
    with pytest.raises(ModelError, match=ends):
        until_the_end()
    assert len(shown) == 1 and shown[0].get("verdict") == verdict


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sentence_about_a_kernel_that_does_not_compile_ends_as_failed(home: Path) -> None:
    sources = home / "kernels" / "softmax" / "sources"
    sources.mkdir(parents=True)
    (sources / "arguments.h").write_text("#error not yet\n")
    done = agent("run", "Build a softmax kernel for H100.", "--model", "recipes", "--yes")
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-1000:]
    assert "NOT READY" in done.stdout and "Failed: compile" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_verify_finds_out_all_that_this_machine_can(home: Path, model: Path) -> None:
    made = agent("kernels", "new", "rms_norm", "--target", "CPU", "--model", str(model), "--name", "own")
    assert made.returncode == 0, made.stdout + made.stderr
    done = agent("kernels", "verify", "own")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    found = {state: place.evidence(home / "kernels" / "own", state) for state in states.SECONDS if state != "publish"}
    assert {name: one and one["status"] for name, one in found.items()} == dict.fromkeys(found, "pass")
    assert "kernel + compiled us" in done.stdout and "CHECKED WITHOUT A GPU" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_generated_code_reaches_nothing_outside_the_sandbox(home: Path) -> None:
    """What a kernel's author wrote runs when it is checked; it may leave no mark on this machine."""
    mark = home / "kernels" / "escaped"
    own = f"open({str(mark)!r}, 'w').write('python')\n"
    functions = own + (place.SKILL / "patterns" / "rms_norm" / "functions.py").read_text()
    settings = load_settings(home=home, sandbox="embedded")
    with inside(Context(home=home, jail=SandboxJail(settings))):
        kernels.new_kernel("rms_norm", "H100", sources={"functions.py": functions}, name="curious")
        kernels.build_kernel("curious")
        checked = kernels.check_kernel("curious")
    assert not mark.exists()
    assert checked["states"]["numerics"] == "fail"  # nor may a kernel write beside its scratch within the jail


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sentence_becomes_a_checked_kernel_with_its_report(cli: Cli, home: Path) -> None:
    task = "Build a vectorized RMSNorm kernel for H100 targeting Qwen3-8B."
    done = agent("run", task, "--model", "recipes", "--yes")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "CHECKED WITHOUT A GPU" in done.stdout and "145 modules" in done.stdout
    folder = home / "kernels" / "qwen3-8b-rms-norm"
    states = {
        state: place.evidence(folder, state) for state in ("spec", "scaffold", "compile", "numerics", "load", "report")
    }
    assert {name: one and one["status"] for name, one in states.items()} == dict.fromkeys(states, "pass")
