# /// script
# requires-python = ">=3.11"
# ///
"""Would this training script fail? `python preflight.py RUN_FOLDER` finds out in about a minute, on any machine.

It rehearses the folder's own train.py: real rows, real tokenizer and template, the model's architecture with two narrow
layers, two steps, a checkpoint written and resumed, a generation. Findings go to preflight.json there, with the digest
of the script; exit code 0 when nothing speaks against the run. It sees no GPU faults where there is no GPU.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 85  # for the rehearsal; the whole stays below 90 on two cores
NAMES = {"yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn"}  # import name to package, where they differ

# What an unexpected error means, by its kind and text: check, what to do.
MEANINGS = [
    (
        r"unexpected keyword argument",
        "arguments",
        "Remove or rename the argument; the installed version does not take it.",
    ),
    (
        r"Target modules .* not found|No modules were targeted",
        "lora",
        "Name modules that the model has, or all-linear.",
    ),
    (r"ModuleNotFoundError|ImportError|requires the .* library", "package", "Install the package, or do without it."),
    (r"chat.?template", "template", "Take a tokenizer with a chat template, or rows without roles."),
    (r"No space left|Errno 28", "disk", "Free space, or write elsewhere."),
    (
        r"MemoryError|out of memory|Cannot allocate",
        "memory",
        "Smaller batch with more accumulation, shorter rows, LoRA.",
    ),
    (r"divisible|num_generations", "batch", "Make batch x accumulation a multiple of the number of generations."),
    (
        r"StopIteration|num_samples=0|empty dataset",
        "empty",
        "Nothing is left to train on: check filter, roles and lengths.",
    ),
    (r"KeyError|column", "columns", "Let to_rows() return the columns the method needs."),
    (
        r"FileNotFoundError|DatasetNotFound|ConnectionError|OfflineMode|DataFilesNotFound",
        "rows",
        "Check the data's name.",
    ),
    (r"JSONDecode|ArrowInvalid|DatasetGeneration|CastError", "rows", "A file of the data cannot be read; inspect it."),
    (r"SafetensorError|size mismatch|Unrecognized model|state_dict", "model", "Check the model's files and revision."),
    (r"reward", "reward", "A reward takes completions and columns, and returns one number or None each."),
]


def main(folder):
    started = time.time()
    script = folder / "train.py"
    text = script.read_text(encoding="utf-8")
    plan = read_json(folder / "plan.json")
    findings = [syntax(text)]
    if findings[0]["ok"]:
        findings += packages(text) + disk(folder, plan)
    measured = {}
    if all(one["ok"] for one in findings):
        told, measured = rehearse(script, plan)
        findings += told
    passed = all(one["ok"] for one in findings)
    result = {"passed": passed, "digest": hashlib.sha256(text.encode()).hexdigest(), "findings": findings}
    result |= {"seconds": round(time.time() - started, 1), "at": time.time(), "measured": measured}
    (folder / "preflight.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for one in findings:
        print(
            ("ok    " if one["ok"] else "FAILS ")
            + f"{one['check']}: {one['what']}"
            + (f" {one['mend']}" if one["mend"] else "")
        )
    return 0 if passed else 1


def finding(check, ok, what, mend=""):
    return {"check": check, "ok": ok, "what": what, "mend": "" if ok and not mend else mend}


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# -- what can be seen without running ---


def syntax(text):
    try:
        ast.parse(text)
    except SyntaxError as error:
        return finding(
            "syntax", False, f"train.py is not Python: line {error.lineno}: {error.msg}.", "Correct the line."
        )
    return finding("syntax", True, "train.py is Python.")


def packages(text):
    """Every import is there; versions other than the pinned ones are told, not refused."""
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.split(".")[0])
    pins = dict(re.findall(r'"([A-Za-z0-9_-]+)==([^"]+)"', text.split("# ///\n")[0]))
    optional = {"bitsandbytes"} if not shutil.which("nvidia-smi") else set()
    missing = sorted(name for name in imported if not importlib.util.find_spec(name))
    missing += sorted(name for name in pins if name not in optional and not version(name) and name not in missing)
    if missing:
        return [finding("package", False, f"Not installed: {', '.join(missing)}.", "Install them, or do without them.")]
    others = [f"{name} {version(name)} instead of {pin}" for name, pin in pins.items() if differs(name, pin)]
    return [finding("package", True, f"All packages are there{'; here is ' + ', '.join(others) if others else ''}.")]


def version(name):
    try:
        return importlib.metadata.version(NAMES.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return None


def differs(name, pin):
    return version(name) is not None and version(name).split("+")[0] != pin


def disk(folder, plan):
    """Two checkpoints and the result, where the run writes on this machine."""
    parameters = plan.get("model", {}).get("parameters")
    if not parameters or plan.get("hardware", {}).get("where") != "local":
        return []
    whole = plan.get("adapter", {}).get("kind", "none") == "none"
    need = parameters * (4 + 2 * 12 if whole else 4) / 2**30
    free = shutil.disk_usage(folder).free / 2**30
    what = f"The run writes about {need:.1f} GB, {free:.1f} GB are free."
    return [
        finding(
            "disk", need < free, what, "" if need < free else "Free space, or choose an adapter or another machine."
        )
    ]


# -- the rehearsal ---


def rehearse(script, plan):
    """Run train.py as it is, in its small mode, writing into a folder of its own; paths count from where we stand."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as place:
        known = {"MODELSMITH_PREFLIGHT": "1", "RUN_FOLDER": place, "HF_DATASETS_CACHE": f"{place}/cache"}
        log, outcome = Path(place) / "log.txt", Path(place) / "result.json"
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [sys.executable, str(script)],
                env={**os.environ, **known},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            code, until = None, time.time() + SECONDS
            while code is None and time.time() < until and not too_long(read_json(outcome), plan):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(1)
            if code is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        result = read_json(outcome)
        tail = log.read_text(encoding="utf-8", errors="replace")[-20_000:]
    facts = result.get("facts", {})
    if code == 0 and result.get("status") == "succeeded":
        return successes(result, facts, plan), facts | {"peak_memory_mb": result.get("peak_memory_mb")}
    if code is None:
        slow = finding("time", False, f"Two small steps took more than {SECONDS} s.", "Look at to_rows().")
        return too_long(result, plan) or [slow], facts
    return [failure(code, result.get("error"), tail)], facts


def failure(code, error, tail):
    """The error in one line with its meaning."""
    if error and error.get("mend"):
        return finding(error["kind"], False, error["text"].removesuffix(error["mend"]).strip(), error["mend"])
    last = next(
        (line for line in reversed(tail.splitlines()) if re.match(r"[\w.]+(Error|Exception|Iteration)\b", line)), ""
    )
    text = f"{error['kind']}: {error['text']}" if error else last or tail.strip()[-500:]
    if code in (-signal.SIGKILL, 137):
        return finding("memory", False, "The rehearsal was killed, most likely for its memory.", MEANINGS[5][2])
    for pattern, check, mend in MEANINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return finding(check, False, text[:600], mend)
    return finding(
        "script", False, text[:600] or f"It ended with code {code}.", "Read the traceback in the script's log."
    )


def successes(result, facts, plan):
    found = [finding("run", True, f"Two steps ran on {facts.get('rows_kept')} of {facts.get('rows')} rows read.")]
    losses = [row["loss"] for row in result.get("log", [])]
    finite = bool(losses) and all(one == one and abs(one) != float("inf") for one in losses)
    found.append(
        finding("nan", finite, f"Losses: {', '.join(f'{one:.3g}' for one in losses)}.", "" if finite else "Check data.")
    )
    for check, key, what in (
        ("checkpoint", "resumed", "resumed from its checkpoint"),
        ("model", "reloads", "saved and loaded"),
    ):
        if not facts.get(key):
            found.append(
                finding(check, False, f"It was not {what}.", "Leave saving and loading in the script as they are.")
            )
        else:
            found.append(finding(check, True, f"It was {what}."))
    return found + lengths(facts, plan) + memory(result, facts, plan)


def too_long(result, plan):
    """What is wrong with the rows' lengths: that shows before the first step, which may then take for ever."""
    return [one for one in lengths(result.get("facts", {}), plan) if not one["ok"]]


def lengths(facts, plan):
    """Rows beyond what the model can read, and rows that are cut to nothing."""
    longest, positions = facts.get("longest"), facts.get("positions")
    limit = (plan.get("hyper") or {}).get("max_length")
    if longest is None:
        return []
    if facts.get("lost", 0) > 0.2:
        what = f"Of {facts['lost']:.0%} of the rows the answer lies wholly beyond max_length={limit}."
        return [finding("length", False, what, "Raise max_length, or shorten the prompts.")]
    if positions and min(longest, limit or longest) > positions:
        what = f"Rows of {longest} tokens do not fit the model's {positions} positions."
        return [finding("length", False, what, f"Set max_length to {positions} or less.")]
    if facts.get("cut", 0) > 0.5:
        what = f"{facts['cut']:.0%} of the rows are longer than max_length={limit}; the longest has {longest} tokens."
        return [finding("length", False, what, "Raise max_length, or drop the long rows.")]
    cut = f", {facts['cut']:.0%} are cut" if facts.get("cut") else ""
    return [finding("length", True, f"The longest of the rows read has {longest} tokens{cut}.")]


def memory(result, facts, plan):
    """What was measured, scaled from the small twin to the real model: weights, gradients and states by parameters,
    activations by layers and width. A rough figure; the plan's own is the better one when they are near."""
    small, real = facts.get("small"), facts.get("real")
    if not small or not real or not result.get("peak_memory_mb"):
        return []
    whole = plan.get("adapter", {}).get("kind", "none") == "none"
    each = 16 if whole else 4
    begun = facts.get("memory_at_start_mb", 600)
    activations = max(0.0, result["peak_memory_mb"] / 1024 - begun / 1024 - small["parameters"] * each / 2**30)
    wider = (real["layers"] * real["hidden"]) / (small["layers"] * small["hidden"])
    need = begun / 1024 + real["parameters"] * each / 2**30 + activations * wider
    said = (plan.get("estimate") or {}).get("memory_gb")
    what = f"About {need:.1f} GB in 32 bits{f'; the plan says {said:.1f} GB' if said else ''}."
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    local = plan.get("hardware", {}).get("where") == "local" and plan.get("hardware", {}).get("device") == "cpu"
    fits = not local or min(need, said or need) < here
    return [
        finding("memory", fits, what, "" if fits else f"This machine has {here:.0f} GB; take LoRA or a smaller model.")
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder with train.py")
    given = parser.parse_args().folder
    if not (given / "train.py").exists():
        parser.error(f"{given} has no train.py")
    sys.exit(main(given.resolve()))
