"""Tells the model, in a few lines, where its code runs: what is there, what is allowed, which files lie ready."""

import os
import platform
import shutil
import subprocess
from functools import cache

from agent.loop.prompt import render
from agent.sandbox.open import Sandbox
from agent.settings import Settings

MOST_FILES = 20
SHOWN = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "trackio", "pandas", "matplotlib")
NETWORK = {
    "embedded": "only package indexes and the Hugging Face Hub, through a proxy that is set up.",
    "local": "none. Tools that need the network will say so.",
    "e2b": "open.",
}


def describe(settings: Settings, sandbox: Sandbox, files: list[str]) -> str:
    embedded = sandbox.where.name == "embedded"
    return render(
        "place",
        python=platform.python_version() if embedded else "3",
        hardware=hardware(settings) if embedded else "",
        packages=", ".join(SHOWN),
        offline=settings.offline,
        network=network(settings, embedded),
        files=files[-MOST_FILES:],
        more=max(0, len(files) - MOST_FILES),
    )


def network(settings: Settings, embedded: bool) -> str:
    if not embedded:
        return NETWORK["e2b"]
    if settings.offline or settings.sandbox_allow == []:
        return NETWORK["local"]
    if settings.sandbox_allow:
        return f"only {', '.join(settings.sandbox_allow[:8])}, through a proxy that is set up."
    return NETWORK["embedded"]


def hardware(settings: Settings) -> str:
    cores = settings.sandbox_cpus or os.cpu_count() or 1
    memory = f", {settings.sandbox_memory_mb} MB memory" if settings.sandbox_memory_mb else ""
    return f"{cores:g} CPU cores{memory}, {gpus() or 'no GPU'}."


@cache
def gpus() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    return "; ".join(done.stdout.strip().splitlines()) if done.returncode == 0 else ""
