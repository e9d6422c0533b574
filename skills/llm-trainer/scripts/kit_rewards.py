"""Rewards for GRPO and RLOO, and the check that a reward function keeps its contract.

A reward gets `completions` and every column of the rows as lists, and returns one number (or None: does not apply) per
completion. Code is run in a child process with limits; the job is the sandbox around it, this is no wall by itself.
"""

import functools
import os
import re
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

from kit_run import Fault, alert

SECONDS_OF_CODE = 5


def text_of(completion):
    return completion if isinstance(completion, str) else completion[-1]["content"]


def after_thinking(text):
    return text.rpartition("</think>")[2].strip()


def exact_match(completions, answer, **_):
    """1 when the answer, apart from case and space, is the reference."""
    texts = [" ".join(after_thinking(text_of(one)).casefold().split()) for one in completions]
    return [float(text == " ".join(str(wanted).casefold().split())) for text, wanted in zip(texts, answer, strict=True)]


def math_answer(completions, answer, **_):
    """1 when the last number or boxed expression equals the reference; None where the reference holds none."""
    found = []
    for one, wanted in zip(completions, answer, strict=True):
        right, given = value_in(str(wanted)), value_in(after_thinking(text_of(one)))
        found.append(None if right is None else float(given == right))
    return found


def value_in(text):
    """The boxed expression, else what follows ####, else the last number; as a fraction where it is one."""
    boxed = boxed_in(text)
    told = boxed if boxed is not None else text.rpartition("####")[2]
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?", told.replace("\\frac{", "").replace("}{", "/"))
    if not numbers:
        return boxed and boxed.strip()
    try:
        return Fraction(numbers[-1].replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return numbers[-1]


def boxed_in(text):
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return None


def well_formed(pattern):
    """A reward of 1 when the whole completion matches the pattern."""
    compiled = re.compile(pattern, re.DOTALL)

    def form(completions, **_):
        return [float(bool(compiled.fullmatch(text_of(one).strip()))) for one in completions]

    return form


def code_runs(completions, tests, **_):
    """1 when the last code block passes the row's `tests`, Python statements such as asserts."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(passes, [text_of(one) for one in completions], tests))


def passes(text, tests):
    blocks = re.findall(r"```(?:python|py)?\s*\n(.*?)```", text, re.DOTALL)
    checks = tests if isinstance(tests, str) else "\n".join(tests)
    # the last line is only reached when no test raised and the code did not end the process itself
    done = os.urandom(8).hex()
    program = f"{blocks[-1] if blocks else text}\n{checks}\nprint('\\n{done}')\n"
    with tempfile.TemporaryDirectory() as folder:
        try:
            ended = subprocess.run(
                [sys.executable, "-I", "-c", program],
                cwd=folder, env={"PATH": os.environ.get("PATH", "")}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=SECONDS_OF_CODE, preexec_fn=limit, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return 0.0
    return float(ended.returncode == 0 and ended.stdout.rstrip().endswith(done))


def limit():
    for what, most in (
        (resource.RLIMIT_CPU, SECONDS_OF_CODE),
        (resource.RLIMIT_AS, 2**30),
        (resource.RLIMIT_FSIZE, 2**24),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def checked(function):
    """The function, held to its contract: the right number of numbers or None, and not None for all, for ever."""
    silent = 0

    @functools.wraps(function)
    def held(prompts=None, completions=None, **columns):
        nonlocal silent
        name = getattr(function, "__name__", "reward")
        try:
            values = function(prompts=prompts, completions=completions, **columns)
        except Exception as error:
            what = f"The reward {name} raised {type(error).__name__}: {error}"
            raise Fault("reward", what, f"It gets {', '.join(['completions', *columns])}.") from error
        if not isinstance(values, list) or len(values) != len(completions):
            what = f"The reward {name} must return a list of {len(completions)} values, it returned {values!r:.100}."
            raise Fault("reward", what, "Return one number or None per completion.")
        if any(not isinstance(one, int | float) and one is not None for one in values):
            raise Fault("reward", f"The reward {name} returned {values!r:.100}.", "Return numbers or None only.")
        silent = silent + 1 if all(one is None for one in values) else 0
        if silent == 2:
            what = f"The reward {name} returned None for every completion, twice in a row; nothing would be learned."
            alert("ERROR", "no reward", what)
            raise Fault("reward", what, "Check the column it reads.")
        return values

    return held


KNOWN = {"exact_match": exact_match, "math": math_answer, "code": code_runs}
NEEDS = {"exact_match": "answer", "math": "answer", "code": "tests"}


def chosen_rewards(names, pattern, own=None):
    """The reward functions of the plan by name: exact_match, math, code, format (with its pattern), own."""
    more = {"format": well_formed(pattern)} | ({"own": own} if own else {})
    unknown = [name for name in names if name not in KNOWN | more]
    if unknown or not names:
        what = f"There is no reward '{', '.join(unknown)}'." if unknown else "No reward is chosen."
        raise Fault("reward", what, f"There are {', '.join([*KNOWN, *more])}; own needs a function `reward`.")
    return [checked((KNOWN | more)[name]) for name in names]
