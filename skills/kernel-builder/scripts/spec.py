# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.22.2"]
# ///
"""State 1, specify: what is asked becomes numbers. Writes kernel.json and evidence/spec.json of a project.

From the model's config on the meta device come the modules that would be replaced, their count and shapes; from the
target its bound; from the reference's own error against float64 the tolerance. Nothing is compiled or timed.
"""

import argparse
import ast
import inspect
import json
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import evidence
from models import calls_of, config_of, on_meta
from project import PATTERNS, Mistake, digest, load_module, sources_of
from schema import parse
from targets import bound_us, target

PHASES = {"prefill": 4096, "decode": 1}  # tokens
ORACLE_NAMES = ["OP", "TITLE", "SCHEMA", "DTYPES", "SHAPES", "reference", "oracle", "make", "empty", "cost"]
MAY_IMPORT = {"torch", "math", "torch.nn.functional", "torch.nn"}
NAME = re.compile(r"[a-z][-a-z0-9]*[a-z0-9]")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--pattern", help="a pattern's name; without it the project's own sources/oracle.py")
    parser.add_argument("--target", required=True, help="H100, A100, T4, MI300X, CPU, sm_90, ...")
    parser.add_argument("--model", help="id or folder of the model it is meant for")
    parser.add_argument("--name", help="its name on the Hub (default: made from model and op)")
    parser.add_argument("--dtype", help="what the model runs in (default: bfloat16 where the op has it)")
    given = parser.parse_args(argv)
    try:
        with evidence.recording("spec", given.project) as record:
            specify(given, record)
    except (Mistake, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return evidence.told(given.project, "spec")


def specify(given: argparse.Namespace, record: evidence.Record) -> None:
    oracle = oracle_at(given.project, given.pattern)
    card = target(given.target)
    truth = truth_of(oracle)
    schema = parse(truth.SCHEMA)
    if schema.op != truth.OP:
        raise Mistake(f"oracle.py: SCHEMA names {schema.op}, OP says {truth.OP}. They must be one.")
    by = f"the pattern {given.pattern}" if given.pattern else "the kernel's author"
    record.part("oracle", "pass", "computed", by=by, sha256=digest(oracle))
    if not given.pattern:
        record.find("warning", "The oracle was written together with the kernel: read it before you trust the checks.")

    dtype = given.dtype or ("bfloat16" if "bfloat16" in truth.DTYPES else truth.DTYPES[0])
    if dtype not in truth.DTYPES:
        raise Mistake(f"{truth.OP} is not made for {dtype}. It has {', '.join(truth.DTYPES)}.")
    model = of_model(given.model, truth, record) if given.model else None
    sizes = sizes_of(truth, model)
    name = given.name or default_name(truth.OP, model)
    if not NAME.fullmatch(name):
        raise Mistake(f"'{name}' is no name for a kernel. Use small letters, digits and hyphens.")
    spec = {
        "name": name,
        "version": 1,
        "license": "Apache-2.0",
        "op": truth.OP,
        "title": truth.TITLE,
        "schema": schema.text,
        "pattern": given.pattern,
        "oracle_sha256": digest(oracle),
        "layer": getattr(truth, "LAYER", None),
        "target": card,
        "model": model,
        "dtype": dtype,
        "dtypes": truth.DTYPES,
        "sizes": [{**one, **roofline(one["size"], truth, dtype, card)} for one in sizes],
        "baselines": ["eager", *(["functional"] if getattr(truth, "functional", None) else []), "torch.compile"],
        "tolerance": tolerance(truth, sizes, record),
        "made": time.strftime("%Y-%m-%d"),
    }
    bounds = {f"{one['phase']} {one['size']}": one["bound_us"] for one in spec["sizes"]}
    missing = f"no data sheet for {card['name']}" if card["backend"] != "cpu" else "a CPU's bandwidth is measured"
    known = any(bounds.values())
    record.part("roofline", "pass" if known else "not_run", "computed", "" if known else missing, bounds_us=bounds)
    record.numbers = {"sizes": spec["sizes"], "tolerance": spec["tolerance"], "target": card}
    given.project.mkdir(parents=True, exist_ok=True)
    (given.project / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")


def oracle_at(folder: Path, pattern: str | None) -> Path:
    found = sources_of(folder, pattern).get("oracle.py") if not pattern or "/" not in pattern else None
    if found is None:
        known = ", ".join(sorted(one.parent.name for one in PATTERNS.glob("*/oracle.py")))
        named = f"'{pattern}' is no pattern" if pattern else f"{folder}/sources has no oracle.py"
        raise Mistake(f"{named}. Patterns are {known}; an op of your own needs sources/oracle.py in the project.")
    return found


def truth_of(path: Path) -> ModuleType:
    """The oracle: only torch and math, nothing that acts when it is imported, every name that is needed."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        named = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        named += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        if strange := [one for one in named if one not in MAY_IMPORT]:
            raise Mistake(f"oracle.py imports {', '.join(strange)}. It may import {', '.join(sorted(MAY_IMPORT))}.")
        quiet = ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.FunctionDef
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not isinstance(node, quiet) and not docstring:
            raise Mistake(f"oracle.py line {node.lineno}: only imports, constants and functions may stand there.")
    truth = load_module("oracle", path)
    if missing := [name for name in ORACLE_NAMES if not hasattr(truth, name)]:
        raise Mistake(f"oracle.py lacks {', '.join(missing)}.")
    inputs = [one.name for one in parse(truth.SCHEMA).inputs]
    for name in ("reference", "cost", "empty"):
        if list(inspect.signature(getattr(truth, name)).parameters) != inputs:
            raise Mistake(f"oracle.py: {name} must take ({', '.join(inputs)}), as SCHEMA says.")
    return truth


def of_model(name: str, truth: ModuleType, record: evidence.Record) -> dict[str, Any]:
    """What the op meets in the model: modules by class, name and size, and what runs before and after them."""
    config, full, source = config_of(name)
    told: dict[str, Any] = {"id": full, "source": source, "config": config.to_diff_dict(), "modules": [], "expected": 0}
    pattern = getattr(truth, "MODULES", None)
    if pattern:
        model = on_meta(config)
        for phase, tokens in PHASES.items():
            told["modules"] += modules_in(calls_of(model, tokens), re.compile(pattern), truth, phase)
        if not told["modules"]:
            there = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
            record.part("modules", "fail", "computed", f"{full} has no module {pattern}. Its classes: {there}")
            return told
        told["expected"] = sum(one["count"] for one in told["modules"] if one["phase"] == "prefill")
    elif hasattr(truth, "of_config"):
        for phase, tokens in PHASES.items():
            told["modules"] += [{"phase": phase, "size": one, "count": None} for one in truth.of_config(config, tokens)]
    classes = sorted({one["class"] for one in told["modules"] if "class" in one})
    why = "" if told["modules"] else "it replaces no module of the model: sizes are the TYPICAL ones"
    known = {"model": full, "read_from": source, "replaced": told["expected"], "classes": classes}
    record.part("modules", "pass", "computed", why, **known)
    return told


def modules_in(calls: list, pattern: re.Pattern[str], truth: ModuleType, phase: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    leaves = [one for one in calls if not list(one[1].children()) or pattern.fullmatch(type(one[1]).__name__)]
    for i, (name, module, shape) in enumerate(leaves):
        if not pattern.fullmatch(type(module).__name__):
            continue
        size = truth.of_module(module, shape)
        key = json.dumps([type(module).__name__, size])
        row = found.setdefault(key, {"phase": phase, "class": type(module).__name__, "size": size, "count": 0})
        row["count"] += 1
        row["example"] = name
        before, after = leaves[i - 1][0] if i else "", leaves[i + 1][0] if i + 1 < len(leaves) else ""
        row["neighbours"] = [before.rpartition(".")[2], after.rpartition(".")[2]]
    return list(found.values())


def sizes_of(truth: ModuleType, model: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The sizes that matter: those of the model, else what the op's author calls typical."""
    if model and model["modules"]:
        return [{"phase": one["phase"], "size": one["size"], "count": one["count"]} for one in model["modules"]]
    typical = getattr(truth, "TYPICAL", None) or truth.SHAPES[-2:]
    return [{"phase": "typical", "size": one, "count": None} for one in typical]


def roofline(size: dict, truth: ModuleType, dtype: str, card: dict[str, Any]) -> dict[str, Any]:
    """Bytes and operations of one call, counted on meta tensors so that no size is too large."""
    import torch

    with torch.device("meta"):
        arguments = truth.make(size, getattr(torch, dtype), None)
    cost = truth.cost(**arguments)
    return {"cost": cost, "bound_us": bound_us(cost, card)}


def tolerance(truth: ModuleType, sizes: list, record: evidence.Record) -> dict[str, Any]:
    """The reference's own error against float64: what a kernel may err is measured by it."""
    import torch
    from cases import oracle_of

    found = {}
    size = smaller(min(sizes, key=lambda one: one["phase"] != "prefill")["size"])
    for dtype in truth.DTYPES:
        arguments = truth.make(size, getattr(torch, dtype), torch.Generator().manual_seed(0))
        own = truth.reference(**arguments)
        exact = oracle_of(truth, arguments, getattr(torch, dtype))
        own, exact = (one[0] if isinstance(one, tuple) else one for one in (own, exact))
        error = (own.double() - exact).abs()
        found[dtype] = {"reference_max": float(error.max()), "reference_mean": float(error.mean())}
    record.part("tolerance", "pass", "computed", size=str(size), **{k: v["reference_max"] for k, v in found.items()})
    return {
        "rule": "twice the reference's own error against float64, and one unit in the last place",
        "size": size,
        **found,
    }


def smaller(size: dict, most: int = 1 << 20) -> dict:
    """The same size with fewer rows, so that the reference takes no time."""
    if "rows" not in size:
        return size
    width = max(value for key, value in size.items() if key != "rows" and isinstance(value, int))
    return {**size, "rows": max(1, min(size["rows"], most // max(width, 1)))}


def default_name(op: str, model: dict[str, Any] | None) -> str:
    house = re.sub(r"[^a-z0-9]+", "-", model["id"].rstrip("/").rpartition("/")[2].lower()).strip("-") if model else ""
    return "-".join(filter(None, [house if house[:1].isalpha() else "", op.replace("_", "-")]))


if __name__ == "__main__":
    sys.exit(main())
