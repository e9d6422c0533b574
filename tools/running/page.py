"""The text of a run's report, section by section, from what lies in its folder."""

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from tools import evaluation
from tools.jobs.local import LOG, last_lines
from tools.plan import SAMPLING
from tools.running import record
from tools.running.diagnosis import diagnose
from tools.running.state import Standing, facts

CHATS = {"sft", "dpo", "kto", "distillation", "vision-sft", "vision-dpo", *SAMPLING}
MOST_TEXT = 600
REPEATS = {"duplicates", "near_duplicates"}  # the audit's names


def markdown(folder: Path, plan: dict[str, Any], now: Standing, picture: str | None) -> str:
    model, data = plan.get("model") or {}, plan.get("dataset") or {}
    verdict = evaluation.verdict(folder) if now.state == "succeeded" else None
    sections = [
        f"# {plan.get('method')} of {model.get('id')} on {data.get('id')}",
        head(folder, now, verdict),
        section("What was asked", asked(folder, plan, verdict)),
        section("Data", dataset(folder, data, plan)),
        section("Plan", settings(plan)),
        section("Time and cost", cost(folder, plan, now)),
        section("Course", course(folder, now, picture)),
        section("Verdict", judged(now, verdict, leak(folder, plan))),
        section("Samples", samples(verdict)),
        section("Reproduce", reproduce(folder)),
        section("Use the model", use(folder, plan, now)),
        section("What to try next", following(folder, plan, now, verdict)),
    ]
    return "\n\n".join(one for one in sections if one) + "\n"


def section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def head(folder: Path, now: Standing, verdict: dict[str, Any] | None) -> str:
    lines = [f"Run `{folder.name}`", f"State: **{now.state}**" + (f", {now.reason}" if now.reason else "")]
    if verdict:
        lines.append(f"VERDICT: **{verdict['verdict']}**{evaluation.judged_by(verdict)}, {verdict['reason']}")
    if record.job(folder).get("forced"):
        lines.append("A person started it without a passed preflight of this very script (`--force`).")
    if record.job(folder).get("jailed"):
        lines.append("It ran in a sandbox of its own: its script is not what its plan renders to, or runs other code.")
    lines.append(f"Written {time.strftime('%Y-%m-%d %H:%M:%S %Z')}")
    return "  \n".join(lines)


def asked(folder: Path, plan: dict[str, Any], verdict: dict[str, Any] | None) -> str:
    model, data, adapter = plan.get("model") or {}, plan.get("dataset") or {}, plan.get("adapter") or {}
    kind = {"none": "all weights", "lora": f"LoRA r={adapter.get('r')}", "qlora": f"QLoRA r={adapter.get('r')}"}
    what = kind.get(str(adapter.get("kind")), "")
    measure = (verdict or {}).get("metric") or record.part(folder / "eval.json").get("metric") or meant(plan)
    return (
        f"Train `{model.get('id')}`{at(model.get('revision'))} with **{plan.get('method')}** ({what}) "
        f"on `{data.get('id')}`, split `{data.get('split')}`; judged by {measure} on held-out rows. "
        f"Seed {plan.get('seed')}."
    )


def meant(plan: dict[str, Any]) -> str:
    """What will decide, as long as nothing is measured."""
    named = (plan.get("eval") or {}).get("metric") or "loss"
    return f"{named}, or exact_match where the answers are short," if plan.get("method") == "sft" else named


def at(revision: str | None) -> str:
    return f" at revision `{revision}`" if revision else ""


def dataset(folder: Path, data: dict[str, Any], plan: dict[str, Any]) -> str:
    lines = [f"- Fingerprint: `{data.get('fingerprint') or 'not taken'}`"]
    if data.get("rows") is not None:
        lines.append(f"- Rows: {data['rows']:,}")
    held = plan.get("eval") or {}
    lines.append(f"- Held out: {held_out(held)}")
    lines += audit(record.part(folder / "audit.json"), str(plan.get("method")))
    if data.get("mapping"):
        lines.append(f"- Each row goes through this mapping:\n\n```python\n{data['mapping'].strip()}\n```")
    return "\n".join(lines)


def held_out(held: dict[str, Any]) -> str:
    if held.get("split"):
        return f"the split `{held['split']}`"
    return f"{held['share']:.0%} of the training rows" if held.get("share") else "a share of the training rows"


def audit(told: dict[str, Any], method: str) -> list[str]:
    if not told:
        return ["- Not audited for this run."]
    verdicts = told.get("verdicts") or {}
    one = verdicts.get(method) or verdicts.get(told.get("method")) or {}
    lines = [f"- Audit: {one.get('verdict', 'no verdict')}" + (f", {one['reason']}" if one.get("reason") else "")]
    problems = told.get("problems") or []
    lines += [f"  - {line_of(problem)}" for problem in problems[:8]] or ["  - no problems found"]
    if told.get("license"):
        lines.append(f"- License: {told['license']}")
    return lines


def line_of(problem: dict[str, Any]) -> str:
    count = f"{problem['count']:,} " if problem.get("count") and "where" in problem else ""
    return f"{count}{problem.get('what', '')}"


def settings(plan: dict[str, Any]) -> str:
    reasons = plan.get("reasons") or []
    if not reasons:
        hyper = plan.get("hyper") or {}
        return "\n".join(f"- {name}: {value}" for name, value in hyper.items() if value is not None)
    rows = [f"| {one['what']} | {cell(one['value'])} | {cell(one['why'])} |" for one in reasons]
    return "\n".join(["| setting | value | why |", "|---|---|---|", *rows])


def cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def cost(folder: Path, plan: dict[str, Any], now: Standing) -> str:
    guess, job, told = plan.get("estimate") or {}, record.job(folder), facts(folder, now)
    place = plan.get("hardware") or {}
    planned = span(guess.get("minutes"), "min") or "unknown"
    money = span(guess.get("usd"), "$") or ("$0, this machine" if place.get("where") == "local" else "unknown")
    minutes = total_minutes(job, now)
    peak = told.get("memory_mb")
    rows = [
        ["machine", place.get("name"), job.get("hardware", "")],
        ["time", planned, "" if minutes is None else f"{minutes:.1f} min"],
        ["time limit", f"{(plan.get('limits') or {}).get('minutes')} min", f"{job['minutes']:g} min" if job else ""],
        ["money", money, "unknown" if job and told["usd"] is None else f"${told['usd']:.2f}" if job else ""],
        ["memory", f"{guess['memory_gb']:.1f} GB" if guess else "unknown", f"{peak / 1024:.1f} GB" if peak else ""],
    ]
    lines = [f"| {' | '.join(str(value) for value in row)} |" for row in rows]
    return "\n".join(["| | planned | so far |" if not now.over else "| | planned | spent |", "|---|---|---|", *lines])


def span(pair: Any, unit: str) -> str:
    if not pair:
        return ""
    low, high = pair
    return f"${low:.2f} to ${high:.2f}" if unit == "$" else f"{low:.1f} to {high:.1f} {unit}"


def total_minutes(job: dict[str, Any], now: Standing) -> float | None:
    ends = [one["end"] for one in job.get("attempts", []) if one.get("end")]
    before = sum(max(0.0, (end.get("ended") or 0) - end["started"]) for end in ends if end.get("started"))
    return None if now.seconds is None and not before else (before + (now.seconds or 0)) / 60


def course(folder: Path, now: Standing, picture: str | None) -> str:
    lines = [f"{now.step} of {now.planned} steps." if now.planned else ""]
    attempts = record.job(folder).get("attempts") or []
    if len(attempts) > 1:
        lines += [f"- {story(number, one, now, len(attempts))}" for number, one in enumerate(attempts, 1)]
    lines += [f"- {one['level']} at step {one['step']}: {one['title']}: {one['text']}" for one in now.alerts[-10:]]
    if picture:
        lines.append(f"\n![curves]({picture})")
    if cause := diagnose(folder, now):
        lines.append(f"\n**What went wrong: {cause['kind']}**\n")
        lines += [f"- {text}" for text in cause.get("evidence", [])]
        last = last_lines(folder / LOG, 12)
        lines += ["\n```text", *last, "```"] if last else []
    return "\n".join(line for line in lines if line)


def story(number: int, attempt: dict[str, Any], now: Standing, count: int) -> str:
    end = attempt.get("end") or {}
    begun = f"from step {attempt['from_step']}" if attempt.get("from_step") else "from the beginning"
    state = end.get("run_state") or (now.state if number == count else "unknown")
    reason = end.get("reason") or (now.reason if number == count else "")
    step = end.get("step") if end else now.step
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt["submitted"]))
    return f"Attempt {number}, {when}: {begun}; {state} at step {step}" + (f" ({reason})" if reason else "")


def leak(folder: Path, plan: dict[str, Any]) -> str:
    """Rows that repeat, held out at random, are partly trained on too: the verdict must say so."""
    if (plan.get("eval") or {}).get("split"):
        return ""
    found = [one for one in record.part(folder / "audit.json").get("problems", []) if one.get("id") in REPEATS]
    if not found:
        return ""
    told = "; ".join(line_of(one) for one in found)
    return (
        f"Caution: {told}. Some of the held-out rows may be among those trained on; remove repeats before you trust it."
    )


def judged(now: Standing, verdict: dict[str, Any] | None, caution: str) -> str:
    if verdict is None:
        return "Not measured yet." if not now.over else f"None: the run ended as {now.state}."
    rows = [
        f"| {one['name']} | {one['before']:.4g} | {one['after']:.4g} | {one['gain']:+.4g} | "
        f"{one['low']:+.4g} to {one['high']:+.4g} | {one['rows']} |"
        for one in verdict["changes"]
    ]
    table = ["| measure | before | after | gain | 95 % | rows |", "|---|---|---|---|---|---|", *rows] if rows else []
    word = f"**{verdict['verdict']}**{evaluation.judged_by(verdict)}: {verdict['reason']}"
    return "\n".join([word, "", *table, "", caution]).rstrip()


def samples(verdict: dict[str, Any] | None) -> str:
    if not verdict or not verdict["samples"]:
        return ""
    parts = []
    for one in verdict["samples"]:
        shown = [
            f"**{name}**\n\n{fenced(one[name])}" for name in ("prompt", "reference", "before", "after") if name in one
        ]
        parts.append("\n\n".join([f"### Held-out row {one['row']}", *shown]))
    return "\n\n".join(parts)


def fenced(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} …"
    fence = "`" * 3
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text or '(empty)'}\n{fence}"


def reproduce(folder: Path) -> str:
    again = shlex.join([Path(sys.executable).name, str(folder / "train.py")])
    return (
        f"```bash\nRUN_FOLDER=again {again}\n```\n\n"
        f"The script is whole; its packages are pinned in its head (`uv run` installs them) and in "
        f"`{folder / 'env.lock'}`."
    )


def use(folder: Path, plan: dict[str, Any], now: Standing) -> str:
    result = record.part(folder / "result.json")
    path = result.get("model") or result.get("adapter")
    if now.state != "succeeded" or not path:
        return "" if now.state != "succeeded" else "The run left no model; see result.json."
    method = str(plan.get("method"))
    if method == "embeddings":
        code = f'from sentence_transformers import SentenceTransformer\n\nmodel = SentenceTransformer("{path}")\n'
        code += 'print(model.encode(["a sentence"]).shape)'
    elif method in CHATS and "vision" not in method:
        code = f'from transformers import pipeline\n\nmodel = pipeline("text-generation", "{path}")\n'
        code += 'messages = [{"role": "user", "content": "Hello!"}]\n'
        code += 'print(model(messages, max_new_tokens=200)[0]["generated_text"][-1]["content"])'
    elif method == "cpt":
        code = f'from transformers import pipeline\n\nmodel = pipeline("text-generation", "{path}")\n'
        code += 'print(model("Once", max_new_tokens=200)[0]["generated_text"])'
    else:
        tasks = {"reward": "text-classification", "sequence-classification": "text-classification"}
        task = tasks.get(method, "image-text-to-text" if method.startswith("vision") else method)
        code = f'from transformers import pipeline\n\nmodel = pipeline("{task}", "{path}")\n'
        code += 'print(model("an input of yours"))'
    return f"```python\n{code}\n```"


def following(folder: Path, plan: dict[str, Any], now: Standing, verdict: dict[str, Any] | None) -> str:
    if not now.over:
        return ""
    if cause := diagnose(folder, now):
        cures = [f"- {one['what']}: {one['why']}" for one in cause.get("cures", [])]
        return "\n".join([cause.get("advice", ""), *cures]).strip()
    if now.state in ("cancelled", "limit"):
        return f"`python -m agent runs resume {folder.name}` goes on from step {record.resumes_at(folder)}."
    adapter = (plan.get("adapter") or {}).get("kind")
    advice = {
        "WIN": ["Try it on prompts of your own before you use it.", "More rows of the same quality usually help more."],
        "MARGINAL": [
            "Train longer (num_train_epochs) while the held-out loss still falls.",
            "A higher LoRA rank or rate." if adapter != "none" else "A higher learning rate.",
        ],
        "REGRESSION": [
            "Lower the learning rate and train for fewer epochs: it may have learned the rows by heart.",
            "Read the samples and the audit: the data may teach something else than the measure asks for.",
        ],
        "NO EVIDENCE": [
            "Hold out more rows (eval.share, or a split of its own): the measure could not tell.",
            "Train longer, if the training loss was still falling.",
        ],
    }
    return "\n".join(f"- {line}" for line in advice[(verdict or {}).get("verdict", "NO EVIDENCE")])
