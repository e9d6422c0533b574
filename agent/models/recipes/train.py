"""Train a model: audit, plan, script, preflight, run, watch, report; and the questions around it.

Each step is one block that calls one tool, prints what matters and keeps what the next one needs. Where a tool refuses,
the person is told why, and nothing after it is tried.
"""

import re

from agent.models.recipes.transcript import Recipe, Turn, block, failed, one_call, step

METHODS = {
    "sft": "sft", "dpo": "dpo", "grpo": "grpo", "kto": "kto", "rloo": "rloo", "reward model": "reward",
    "distillation": "distillation", "distil": "distillation", "continued pretraining": "cpt", "cpt": "cpt",
    "token classification": "token-classification", "ner": "token-classification",
    "image classification": "image-classification", "image classifier": "image-classification",
    "classification": "sequence-classification",
    "classifier": "sequence-classification", "embeddings": "embeddings", "embedding model": "embeddings",
    "object detection": "object-detection", "detector": "object-detection",
}  # fmt: skip
NUMBERS = {
    "num_train_epochs": r"(?P<value>\d+(?:\.\d+)?) epochs?\b",
    "max_steps": r"(?P<value>\d+) steps\b",
    "learning_rate": r"(?:learning rate|lr)(?: of)? (?P<value>\d*\.?\d+(?:e-?\d+)?)",
    "per_device_train_batch_size": r"batch(?: size)?(?: of)? (?P<value>\d+)",
    "max_completion_length": r"answers of (?P<value>\d+) tokens",
    "max_length": r"(?:max[_ ]length|length)(?: of)? (?P<value>\d+)",
}
WHOLE = {"max_steps", "per_device_train_batch_size", "max_completion_length", "max_length"}
MINUTES = r"(?:at most|within|under|in|max) (?P<value>\d+(?:\.\d+)?) ?(?P<unit>min|hour|h\b)"
DOLLARS = r"(?:at most|for|under|max|budget(?: of)?) \$ ?(?P<value>\d+(?:\.\d+)?)"
NAME = r"[\"'`]?(?P<{}>[\w./~+-]*[\w~/])[\"'`]?"
PLACE = r"[\"'`]?(?P<{}>[\w~+-]*[./][\w./~+-]*[\w/])[\"'`]?"  # a path or an id, not just any word
RUN = r"(?:the )?(?:runs?|training)\s+" + NAME
DATA = rf"(?:the |my )?(?:data(?:set)? |file )?{PLACE.format('data')}"
TRAIN = re.compile(
    r"\b(?:fine-?tune|finetune|train|sft|dpo|grpo|kto|rloo|distil)\s+(?:(?:an?|the|my)\s+)?"
    r"(?:(?:model|(?:(?:image )?classifier|(?:object )?detector|reward model|embeddings?(?: model)?)"
    r"\s+(?:from|with|of))\s+)?" + NAME.format("model") + rf".*?\son\s+{DATA}",
    re.I | re.S,
)
COST = re.compile(
    r"\b(?:(?:what|which) hardware|how much|what (?:does|would) it cost|hardware and cost|plan)\b.*?"
    r"\b(?:for|train|fine-?tune|tuning|training)\s+(?:of )?" + NAME.format("model") + rf"(?:.*?\son\s+{DATA})?",
    re.I,
)
SUITS = re.compile(
    rf"^(?:please )?(?:check(?: if| whether)?|audit|inspect|(?:does|can|is)(?=.*\b(?:for|as|to)\b))\s+{DATA}", re.I
)
RESUME = re.compile(r"\b(?:continue|resume|go on with)\s+" + RUN.format("run"), re.I)
COMPARE = re.compile(r"\bcompare\s+" + RUN.format("one") + r"\s+(?:and|with|to)\s+" + NAME.format("two"), re.I)
STATUS = re.compile(r"\b(?:how is|status of|report on|show)\s+" + RUN.format("run"), re.I)

AUDIT = """
try:
    audit = inspect_dataset({data!r}, method={method!r}, tokenizer={model!r})
except Exception as problem:  # the tokenizer may be out of reach; the rows are not
    print(f"{{problem}}\\nWithout the tokenizer:")
    audit = inspect_dataset({data!r}, method={method!r})
print(audit["markdown"][:1500])
data = {data!r}
if audit["prepare_first"]:
    prepared = prepare_dataset(data, method=audit["method"])
    print(f"Prepared, because {{audit['prepare_first']}}: {{prepared['markdown'][:700]}}")
    data = prepared["folder"]
"""
PLAN = """
planned = plan_training({model!r}, data, method={method!r}, wish={wish!r}, {limits}overrides={overrides!r})
plan = planned["plan"]
print(planned["markdown"][:1500])
"""
SCRIPT = """
written = write_training_script(plan)
run = written["run"]
print(f"{run}: {written['path']}")
"""
PREFLIGHT = """
rehearsed = preflight(run)
print("\\n".join(f"{'ok' if row[0] == 'ok' else 'FAILS'} {row[1]}: {row[2]} {row[3]}" for row in rehearsed["rows"]))
if not rehearsed["passed"]:
    final_answer(rehearsed)
"""
START = """
status = start_run(run)
print(status["title"])
"""
WATCH = """
import time
begun, told = time.time(), ""
while not status["over"] and time.time() - begun < 1500:
    time.sleep(3 if time.time() - begun < 120 else 15)
    status = run_status(run)
    if status["title"] != told:
        told = status["title"]
        print(told)
print("WATCHED:", "over, " + status["state"] if status["over"] else "it goes on")
"""
REPORT = """
cause = status.get("diagnosis")
if cause:
    print("What went wrong:", cause["kind"], *cause["evidence"], cause.get("advice", ""), sep="\\n  ")
final_answer(write_report(run))
"""


def numbers(text: str) -> dict[str, float | int]:
    found = {name: re.search(pattern, text, re.I) for name, pattern in NUMBERS.items()}
    return {name: (int if name in WHOLE else float)(hit["value"]) for name, hit in found.items() if hit}


def limits(text: str) -> str:
    told = ""
    if hit := re.search(MINUTES, text, re.I):
        told += f"max_minutes={float(hit['value']) * (1 if hit['unit'].lower() == 'min' else 60):g}, "
    if hit := re.search(DOLLARS, text, re.I):
        told += f"max_usd={float(hit['value']):g}, "
    return told


def method_in(text: str) -> str | None:
    """The method the sentence names outside of names of files and models."""
    words = " ".join(word for word in text.split() if "/" not in word and "." not in word.rstrip(".,"))
    for name, method in METHODS.items():
        if re.search(rf"\b{name}\b", words, re.I):
            return method
    return None


def model_in(found: re.Match[str]) -> str:
    """Well-known models may be named without their house."""
    name = found["model"]
    return f"Qwen/{name}" if re.fullmatch(r"Qwen\d[\w.-]*", name) else name


def audit(found: re.Match[str], turn: Turn) -> str:
    told = {"data": found["data"], "model": model_in(found), "method": method_in(turn.task)}
    return block("First I look at the data.", AUDIT.format(**told))


def plan(found: re.Match[str], turn: Turn) -> str:
    told = {"model": model_in(found), "data": found["data"], "method": method_in(turn.task), "wish": turn.task[:500]}
    told |= {"limits": limits(turn.task), "overrides": numbers(turn.task) or None}
    return step(turn, "Now the plan: method, settings, memory, time and cost.", PLAN.format(**told))


def script(found: re.Match[str], turn: Turn) -> str:
    return step(turn, "I write the training script from the plan.", SCRIPT)


def rehearse(found: re.Match[str], turn: Turn) -> str:
    return step(turn, "Before anything runs for long, the script is rehearsed.", PREFLIGHT)


def start(found: re.Match[str], turn: Turn) -> str:
    return step(turn, "The rehearsal passed; I start the training.", START)


def watch(found: re.Match[str], turn: Turn) -> str:
    """Until the run is over, one block after the other; then the report."""
    if not failed(turn) and "WATCHED: over" in turn.outputs[-1]:
        return block("The run is over; I write its report.", REPORT)
    return step(turn, "I watch the run.", WATCH)


def resume(found: re.Match[str], turn: Turn) -> str:
    return block("I go on with the run.", f"run = {found['run']!r}\nstatus = resume_run(run)\nprint(status['title'])")


def cost(found: re.Match[str], turn: Turn) -> str:
    data = found["data"] or ""
    call = f"plan_training({model_in(found)!r}, {data!r}, method={method_in(turn.task)!r}, wish={turn.task[:500]!r})"
    return one_call(turn, "I plan it without starting anything.", call)


def suits(found: re.Match[str], turn: Turn) -> str:
    return one_call(turn, "I audit the data.", f"inspect_dataset({found['data']!r}, method={method_in(turn.task)!r})")


def compare(found: re.Match[str], turn: Turn) -> str:
    return one_call(turn, "I put the runs beside each other.", f"compare_runs([{found['one']!r}, {found['two']!r}])")


def status(found: re.Match[str], turn: Turn) -> str:
    return one_call(turn, "I look at the run.", f"write_report({found['run']!r})")


RECIPES = [
    Recipe("compare runs", "compare runs tiny-sft-1 and tiny-sft-2", COMPARE, (compare,)),
    Recipe("resume", "resume run tiny-sft-1", RESUME, (resume, watch)),
    Recipe("status", "how is run tiny-sft-1", STATUS, (status,)),
    Recipe("cost", "what hardware and cost for Qwen/Qwen3-0.6B on my-data.jsonl", COST, (cost,)),
    Recipe("train", "fine-tune Qwen/Qwen3-0.6B on my-data.jsonl", TRAIN, (audit, plan, script, rehearse, start, watch)),
    Recipe("check data", "check if my-data.jsonl works for DPO", SUITS, (suits,)),
]
