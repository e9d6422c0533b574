"""From a plan to a script: `write_training_script` renders the method's program of the skill into the run's folder.

The skill's program is the one that runs: its marked constants are set from the plan, the shared pieces it imports are
put in, and nothing else changes. Names of arguments are checked against the libraries that are installed here.
"""

import ast
import hashlib
import json
import re
import secrets
import time
from pathlib import Path
from typing import Any

from tools import envelope
from tools.context import ToolError, here
from tools.declare import tool
from tools.plan import SAMPLING, VISION, TrainingPlan, read_plan
from tools.running import record
from tools.signatures import wrong_arguments

SKILLS = Path(__file__).parent.parent / "skills"
KITS = SKILLS / "llm-trainer" / "scripts"  # the shared pieces lie once
BEGIN, END = "# --- the plan: change what you like ---\n", "# --- end of the plan ---\n"
KIT = re.compile(r"^from (kit_\w+) import [^\n]+\n", re.MULTILINE)
HEADER = re.compile(r"# /// script\n.*?# ///\n", re.DOTALL)
REWARDS = {"exact_match", "math", "code", "format"}
AS_IT_IS = 'def to_rows(row):\n    """The rows fit as they are."""\n    return [row]'
RUN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


@tool("free")
def write_training_script(plan: dict, run: str | None = None, reward: str | None = None) -> dict:
    """Write the training script of a plan into a run folder, ready for `preflight`.

    The folder then holds train.py (one file, constants on top, free to edit), plan.json and env.lock.

    Args:
        plan: A training plan as plan_training makes it.
        run: Name of the run; without it one is made from model, method and time. An untrained run is written anew.
        reward: For grpo and rloo: exact_match, math, code, format, several as "math+format", or Python code with
            `def reward(completions, answer, **_)` that returns one number or None per completion.
    """
    checked = rewarded(read_plan(plan), reward)
    name = run or new_name(checked)
    if not RUN_NAME.fullmatch(name):
        raise ToolError(f"'{name}' is no name for a run. Use small letters, digits, '-', '_' and '.'.")
    text = render(checked, name)
    if wrong := wrong_arguments(text, here().home / "cache" / "signatures.json"):
        raise ToolError("The script does not fit the installed libraries: " + " ".join(wrong))
    folder = here().home / "runs" / name
    if (folder / "result.json").exists():
        raise ToolError(f"The run {name} has been trained already. Choose another name, or leave it out.")
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(folder / "train.py", text)
    record.write_text(folder / "plan.json", checked.model_dump_json(indent=2) + "\n")
    record.write_text(folder / "env.lock", lock(text))
    (folder / "preflight.json").unlink(missing_ok=True)
    todo = f'preflight("{name}"), then start it. After a change of train.py run preflight again.'
    path = folder / "train.py"
    size = len(text.encode())
    return envelope.file(str(path), f"Training script of {name}", size, run=name, folder=str(folder), next=todo)


def rewarded(plan: TrainingPlan, reward: str | None) -> TrainingPlan:
    """The plan with its reward: names become the metric, code stands beside the mapping; the plan alone renders."""
    if reward is None:
        return plan
    if plan.method not in SAMPLING:
        raise ToolError(f"{plan.method} takes no reward. Leave it out, or plan grpo or rloo.")
    if set(reward.split("+")) <= REWARDS:
        return plan.model_copy(update={"eval": plan.eval.model_copy(update={"metric": reward})})
    if "def reward(" not in reward:
        known = ", ".join(sorted(REWARDS))
        raise ToolError(f"'{reward[:80]}' is no reward. Use {known}, or code that defines reward(completions, **_).")
    code = f"{(plan.dataset.mapping or AS_IT_IS).strip()}\n\n\n{reward.strip()}\n"
    return plan.model_copy(update={"dataset": plan.dataset.model_copy(update={"mapping": code})})


def new_name(plan: TrainingPlan) -> str:
    model = re.sub(r"[^a-z0-9.]+", "-", plan.model.id.rstrip("/").rpartition("/")[2].lower()).strip("-.") or "model"
    return f"{model[:40]}-{plan.method}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def program(method: str) -> Path:
    skill = "vision-trainer" if method in VISION else "llm-trainer"
    path = SKILLS / skill / "scripts" / f"{method.replace('-', '_')}.py"
    if not path.exists():
        raise ToolError(f"There is no script for the method {method} yet. Choose another method.")
    return path


def render(plan: TrainingPlan, name: str) -> str:
    """The script's text; a mistake in it is found here, not on the rented machine."""
    source = program(plan.method)
    template = source.read_text(encoding="utf-8")
    head, _, rest = template.partition(BEGIN)
    block, _, body = rest.partition(END)
    text = head + BEGIN + filled(block, values(plan, name), plan.dataset.mapping) + END + inlined(body)
    if plan.adapter.kind == "qlora":
        text = text.replace('  "trackio==', '  "bitsandbytes==0.50.0",\n  "trackio==', 1)
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise ToolError(f"The script would not be Python: {error}. Correct dataset.mapping.") from None
    return text


def values(plan: TrainingPlan, name: str) -> dict[str, Any]:
    """Constants of the scripts by name. A script that has no such constant has no use for it; None keeps its own."""
    hyper, adapter = plan.hyper, plan.adapter
    every = hyper.eval_steps or hyper.save_steps
    lora: dict[str, Any] = {"r": adapter.r, "lora_alpha": adapter.alpha, "lora_dropout": adapter.dropout}
    lora |= {"target_modules": adapter.target_modules, "task_type": adapter.task_type}
    lora |= {"modules_to_save": adapter.modules_to_save}
    return {
        "MODEL": plan.model.id,
        "REVISION": plan.model.revision,
        "TEACHER": plan.model.teacher,
        "DATASET": plan.dataset.id,
        "CONFIG": plan.dataset.config,
        "SPLIT": plan.dataset.split,
        "EVAL_SPLIT": plan.eval.split,
        "EVAL_SHARE": None if plan.eval.split else plan.eval.share or 0.05,
        "SEED": plan.seed,
        "ADAPTER": adapter.kind,
        "LORA": {key: value for key, value in lora.items() if value is not None} if adapter.kind != "none" else None,
        "LEARNING_RATE": hyper.learning_rate,
        "WARMUP_STEPS": hyper.warmup_steps,
        "SCHEDULER": hyper.lr_scheduler_type,
        "EPOCHS": hyper.num_train_epochs,
        "MAX_STEPS": hyper.max_steps or -1,
        "BATCH": hyper.per_device_train_batch_size,
        "ACCUMULATION": hyper.gradient_accumulation_steps,
        "MAX_LENGTH": hyper.max_length,
        "PACKING": hyper.packing,
        "ASSISTANT_ONLY": hyper.assistant_only_loss,
        "WEIGHT_DECAY": hyper.weight_decay,
        "MAX_GRAD_NORM": hyper.max_grad_norm,
        "OPTIM": hyper.optim,
        "DTYPE": hyper.dtype,
        "BF16": hyper.bf16,
        "FP16": hyper.fp16,
        "ATTENTION": hyper.attn_implementation,
        "CHECKPOINTING": hyper.gradient_checkpointing,
        "BETA": hyper.beta,
        "GENERATIONS": hyper.num_generations,
        "NEW_TOKENS": hyper.max_completion_length,
        "TEMPERATURE": hyper.temperature,
        "IMAGE_SIZE": hyper.image_size,
        "LOG_STEPS": hyper.logging_steps,
        "EVAL_STEPS": every,
        "REWARDS": rewards(plan),
        "PROJECT": "modelsmith",
        "RUN_NAME": name,
    }


KEEP_NONE = {"REVISION", "CONFIG", "EVAL_SPLIT", "EVAL_SHARE", "MAX_LENGTH"}


def rewards(plan: TrainingPlan) -> list[str] | None:
    """Rewards by name; a function `reward` beside the mapping is the plan's own. None: the script's default."""
    if "reward" in functions(plan.dataset.mapping or ""):
        return ["own"]
    named = plan.eval.metric.split("+")
    return named if set(named) <= REWARDS else None


def functions(code: str) -> list[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise ToolError(f"dataset.mapping is not Python: {error}. Correct it.") from None
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def filled(block: str, told: dict[str, Any], mapping: str | None) -> str:
    """The block of constants with the plan's values; comments stay where they are."""
    lines = block.splitlines(keepends=True)
    for node in ast.parse(block).body:
        if not isinstance(node, ast.Assign) or node.lineno != node.end_lineno:
            continue
        target, line = node.targets[0], lines[node.lineno - 1]
        names = [part.id for part in (target.elts if isinstance(target, ast.Tuple) else [target])]  # type: ignore[attr-defined]
        given = list(node.value.elts) if isinstance(target, ast.Tuple) else [node.value]  # type: ignore[attr-defined]
        shown = []
        for name, value in zip(names, given, strict=True):
            use = name in told and (told[name] is not None or name in KEEP_NONE)
            shown.append(literal(told[name]) if use else ast.unparse(value).replace("'", '"'))  # the latter are ours
        comment = line[node.end_col_offset :].rstrip("\n")
        lines[node.lineno - 1] = f"{', '.join(names)} = {', '.join(shown)}{comment}\n"
    return with_mapping("".join(lines), mapping)


def literal(value: Any) -> str:
    """A value of the plan as Python source: whatever its text holds, it stays text."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def with_mapping(block: str, mapping: str | None) -> str:
    """The plan's functions in place of the script's examples; without any the rows fit as they are."""
    code = (mapping or AS_IT_IS).strip("\n")
    named = functions(code)
    if "to_rows" not in named:
        other = [name for name in named if name != "reward"]
        if not other:
            raise ToolError(
                "dataset.mapping defines no function. Write def to_rows(row): ... that returns a list of rows."
            )
        code += f"\n\n\nto_rows = {other[-1]}"
    if "reward" not in named and "\ndef reward(" in block:
        code += '\n\n\nreward = None  # or a function of one\'s own, chosen as "own"'
    lines = block.splitlines(keepends=True)
    examples = [one for one in ast.parse(block).body if isinstance(one, ast.FunctionDef)]
    for node in reversed(examples):
        lines[node.lineno - 1 : node.end_lineno] = [code + "\n"] if node.name == "to_rows" else []
    return "".join(lines).rstrip("\n") + "\n\n\n"


def inlined(body: str) -> str:
    """The body with the text of each `kit_` module where it was imported first; its docstring becomes a comment."""
    done: list[str] = []

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name in done:
            return ""
        done.append(name)
        text = (KITS / f"{name}.py").read_text(encoding="utf-8")
        doc = ast.parse(text).body[0]
        lines = text.splitlines(keepends=True)[doc.end_lineno :]
        about = ast.get_docstring(ast.parse(text), clean=True) or name
        comment = "".join(f"# {line}".rstrip() + "\n" for line in about.splitlines())
        code = "".join(lines).replace("\n# ruff: noqa: E402\n", "", 1)
        return comment + KIT.sub(put, code).rstrip("\n") + "\n\n\n"

    return KIT.sub(put, body)


def lock(text: str) -> str:
    """The script's pins as a requirements file: what was asked for, whatever is installed here."""
    found = HEADER.search(text)
    pins = re.findall(r'"([A-Za-z0-9_.\[\]-]+==[^"]+)"', found[0]) if found else []
    return "\n".join(pins) + "\n"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_run(run: str) -> tuple[Path, dict[str, Any]]:
    """Folder and plan of a run by its name."""
    folder = here().home / "runs" / run
    if not RUN_NAME.fullmatch(run) or not (folder / "train.py").exists():
        raise ToolError(f"There is no run '{run}' with a script. Call write_training_script(plan) first.")
    return folder, json.loads((folder / "plan.json").read_text(encoding="utf-8"))
