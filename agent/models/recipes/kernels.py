"""Build a kernel: specify, scaffold, compile, check, load, report; timing where the sentence asks for it.

A state that fails ends the run as failed, with the report; one that could not run here does not. Only the worked ops:
for any other a language model must write the sources.
"""

import re

from agent.models.recipes.transcript import Recipe, Turn, block, failed, step

ADJECTIVES = (
    r"(?:a|an|the|me|fast|faster|vectori[sz]ed|optimi[sz]ed|efficient|custom|fused|gpu|cuda|triton|cpu|hip|new)"
)
KERNEL = re.compile(
    rf"\b(?:build|write|make|create|generate)\s+(?:{ADJECTIVES}\s+)*(?P<op>[\w][\w +-]*?)\s+kernel\s+for\s+"
    r"(?:(?:an?|the|my)\s+)?(?P<target>[\w][\w .-]*?)"
    r"(?:\s*,?\s+(?:targeting|meant for|for use in|to be used in|in|for)\s+(?:the model\s+)?"
    r"[\"'`]?(?P<model>[\w./~-]*\w)[\"'`]?)?"
    r"(?:\s*(?:,|and|then)\s+.*)?\s*[.!]?\s*$",
    re.I | re.S,
)
TIMED = re.compile(r"\b(?:benchmark|time it|measure|how fast|speed)\b", re.I)

NEW = """
made = new_kernel({op!r}, target={target!r}, model={model!r})
kernel = made["kernel"]
print(f"{{kernel}}: {{made['states']}}")
if not made["passed"]:
    show(made)
    raise RuntimeError(made["note"].splitlines()[-1])
"""
NEXT = """
done = {call}(kernel)
for mark, state, what, known, figures in done["rows"]:
    print(f"{{mark:<8}} {{what}} ({{known}}) {{figures}}"[:160])
if not done["passed"]:
    show(kernel_report(kernel))
    raise RuntimeError(done["note"].splitlines()[-1])
"""
REPORT = """
report = kernel_report(kernel)
if report["verdict"] == "NOT READY":
    show(report)
    raise RuntimeError(f"{kernel} is not ready")
final_answer(report)
"""


def new(found: re.Match[str], turn: Turn) -> str:
    return block(
        "First the numbers and the project: what is asked, for which card, in which shapes.", NEW.format(**asked(found))
    )


def asked(found: re.Match[str]) -> dict[str, str | None]:
    return {"op": found["op"].strip(), "target": found["target"].strip(), "model": found["model"]}


def build(found: re.Match[str], turn: Turn) -> str:
    return step(turn, "I compile it.", NEXT.format(call="build_kernel"))


def check(found: re.Match[str], turn: Turn) -> str:
    return step(
        turn,
        "I check it against float64, break it on purpose, and load it as a user would.",
        NEXT.format(call="check_kernel"),
    )


def last(found: re.Match[str], turn: Turn) -> str:
    """The report; before it the timing, if the sentence asks for one."""
    if TIMED.search(turn.task) and turn.step == 3 and not failed(turn):
        return step(turn, "I time it.", NEXT.format(call="benchmark_kernel"))
    return step(turn, "Every figure in one report.", REPORT)


RECIPES = [
    Recipe("kernel", "build a vectorized RMSNorm kernel for H100 targeting Qwen3-8B", KERNEL, (new, build, check, last))
]
