"""GPU kernels from a sentence to a report: each tool runs the skill's own programs on a project, in the jail.

A project lies in the home's kernels/ folder, in the layout of the Hub's kernel-builder. What a tool cannot find out on
this machine is told as not run; on one with a GPU the same call fills it in.
"""

import os
import re
import subprocess
import sys

from tools import envelope
from tools.context import ToolError, here
from tools.declare import Stake, tool
from tools.kernel import place, states


@tool("free")
def new_kernel(
    op: str, target: str, model: str | None = None, sources: dict | None = None, name: str | None = None
) -> dict:
    """Specify and scaffold a kernel project: modules, shapes and bounds in numbers, then all its files.

    A worked op (rms_norm, softmax, ...) needs nothing else. Any other needs its sources; read the kernel-builder
    skill for what stands in them.

    Args:
        op: A worked op, or the name of your own.
        target: The card or processor: H100, A100, T4, L4, B200, RTX 4090, MI300X, CPU, sm_90, ...
        model: The model it is meant for, such as Qwen/Qwen3-8B, or a folder with its config.json.
        sources: Files by name: oracle.py (only for an op of your own), arguments.h, kernel.cuh, rows.h,
            triton_kernel.py, functions.py, layers.py. For a worked op they take the place of its own.
        name: Its name on the Hub; without it one is made from model and op.
    """
    pattern = place.pattern_of(op)
    if pattern is None and "oracle.py" not in (sources or {}):
        known = ", ".join(place.patterns())
        raise ToolError(f"'{op}' is not among the worked ops: {known}. Give sources with an oracle.py for your own.")
    kernel = name or default_name(pattern or op, model)
    if not place.NAME.fullmatch(kernel):
        raise ToolError(
            f"'{kernel}' is no name for a kernel. Use small letters, digits and hyphens, such as my-rms-norm."
        )
    folder = place.kernels_folder() / kernel
    folder.mkdir(parents=True, exist_ok=True)
    place.write_sources(folder, sources or {}, pattern)
    options = ["--target", target, "--name", kernel]
    options += ["--pattern", pattern] if pattern else []
    lent = []
    if model:
        local = (here().folder / model).resolve()
        lent = [local] if local.is_dir() else []
        options += ["--model", str(local) if lent else model]
    found = {"spec": states.run(folder, "spec", *options, lent=lent)}
    if found["spec"]["status"] != "fail":
        found["scaffold"] = states.run(folder, "scaffold")
    return states.told(kernel, found, f'Next: build_kernel("{kernel}").') | {"folder": str(folder)}


def default_name(op: str, model: str | None) -> str:
    house = re.sub(r"[^a-z0-9]+", "-", model.rstrip("/").rpartition("/")[2].lower()).strip("-") if model else ""
    plain = re.sub(r"[^a-z0-9]+", "-", op.lower()).strip("-")
    return f"{house}-{plain}" if house[:1].isalpha() else plain


@tool("free")
def build_kernel(kernel: str, sources: dict | None = None) -> dict:
    """Compile a kernel: CPU build, CUDA for every architecture, Triton for the target; refuses spills.

    Args:
        kernel: Its name, from new_kernel.
        sources: Files to change before, as in new_kernel.
    """
    folder = place.folder_of(kernel)
    if sources:
        place.write_sources(folder, sources, place.spec(folder).get("pattern"))
    found = {"scaffold": states.run(folder, "scaffold")}
    if found["scaffold"]["status"] != "fail":
        found["compile"] = states.run(folder, "compile")
    return states.told(kernel, found, f'Next: check_kernel("{kernel}").')


@tool("free")
def check_kernel(kernel: str) -> dict:
    """Check a kernel against float64 on CPU, emulator, Triton and GPU; break it on purpose; load it afresh.

    Args:
        kernel: Its name. It must be built.
    """
    folder = place.folder_of(kernel)
    found = {state: states.run(folder, state) for state in ("numerics", "load")}
    return states.told(kernel, found, f'Next: benchmark_kernel("{kernel}") or kernel_report("{kernel}").')


@tool("free")
def benchmark_kernel(kernel: str) -> dict:
    """Time a kernel beside eager, the functional op and torch.compile, then in a whole model.

    Args:
        kernel: Its name. It must be built and right.
    """
    folder = place.folder_of(kernel)
    found = {state: states.run(folder, state) for state in ("microbench", "endtoend")}
    return states.told(kernel, found, f'Next: kernel_report("{kernel}").')


@tool("free")
def kernel_report(kernel: str) -> dict:
    """The report of a kernel: every figure with how it is known, and what was not run.

    Args:
        kernel: Its name.
    """
    folder = place.folder_of(kernel)
    found = states.run(folder, "report")
    text = place.read(folder, "report.md")
    if text is None:
        raise ToolError(f"The report was not written: {found['reason']}")
    numbers = found.get("numbers", {})
    return envelope.report(text, f"Kernel {kernel}", kernel=kernel, verdict=numbers.get("verdict"), folder=str(folder))


def publishing(kernel: str, repo: str) -> Stake:
    return Stake(f"upload the builds of the kernel {kernel} to {repo} on the Hub, for everybody to load", repo)


@tool("publish", publishing)
def publish_kernel(kernel: str, repo: str) -> dict:
    """Upload a kernel's publishable builds and card to a kernel repository of the Hub.

    Builds made here are refused where only kernel-builder's run everywhere; it says what to run instead.

    Args:
        kernel: Its name.
        repo: The repository, organisation/name.
    """
    folder = place.folder_of(kernel)
    checked = states.run(folder, "publish", "--repo", repo)
    waiting = [part["name"] for part in checked["parts"] if part["status"] == "not_run"]
    if checked["status"] != "pass" or waiting:
        return states.told(kernel, {"publish": checked}, "Nothing was uploaded.") | {"uploaded": False}
    token = here().hf_token
    if token is None:
        raise ToolError("No Hugging Face token is set here. Log in with `hf auth login`, or set HF_TOKEN.")
    done = subprocess.run(
        [sys.executable, "-P", str(place.SKILL / "scripts" / "upload.py"), str(folder), "--repo", repo],
        env={**os.environ, "HF_TOKEN": token}, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ToolError(f"The upload failed: {states.last(done.stderr or done.stdout).replace(token, '***')}")
    return envelope.text(done.stdout.strip(), kernel=kernel, uploaded=True, url=done.stdout.split()[-1])
