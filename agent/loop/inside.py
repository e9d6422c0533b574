"""Runs in the sandbox's kernel, sent there as text: the stubs of the host's tools, `final_answer` and `show`.

A call leaves as a display object on the cell's live result stream; the reply comes back as a file. It holds no secret
and grants nothing: the host judges every request anew. Standard library and IPython only.
"""

import inspect
import json
import os
import pathlib
import threading
import time
import uuid
import warnings

from IPython import get_ipython
from IPython.display import display

CALL = "application/vnd.modelsmith.call+json"
SHOW = "application/vnd.modelsmith.show+json"
FINAL = "application/vnd.modelsmith.final+json"
HERE = os.getpid()
LARGEST = 32 * 1024 * 1024
running = threading.Event()


class FinalAnswer(BaseException):
    """Ends the cell: the answer is on its way to the person."""


class ToolError(RuntimeError):
    """The tool could not do it; the text says why and what to do."""


class Result(dict):
    """A tool's result: a dict that prints as what it says and which fields it has, not as everything in it."""

    def __init__(self, values, told):
        super().__init__(values)
        self.told = told

    def __repr__(self):
        return self.told

    def __reduce__(self):
        return dict, (dict(self),)


def plain(value):
    """The value as JSON: as it is when it can be, known rich kinds as envelopes, else its text."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        rows = json.loads(value.head(500).to_json(orient="values", date_format="iso"))
        note = f"{len(value) - 500} more rows" if len(value) > 500 else ""
        return {"type": "table", "title": "", "columns": [str(c) for c in value.columns], "rows": rows, "note": note}
    if hasattr(value, "savefig"):
        import base64
        import io

        picture = io.BytesIO()
        value.savefig(picture, format="png", bbox_inches="tight")
        return {"type": "plot", "title": "", "png": base64.b64encode(picture.getvalue()).decode()}
    try:
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except (TypeError, ValueError):
        return str(value)


def call(folder, name, arguments):
    """One call of a host tool: ask, wait for the reply, return or raise."""
    if os.getpid() != HERE:
        raise ToolError(f"{name} can only be called from the main process, not from a child process.")
    if not running.is_set():
        raise ToolError(f"{name} can only be called while a cell runs, not from a thread of an earlier one.")
    try:
        size = len(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ToolError(f"The arguments of {name} must be plain JSON values (str, int, list, dict): {error}") from None
    if size > LARGEST:
        raise ToolError(f"The arguments of {name} are {size} bytes. Write them to a file and pass its path.")
    number = uuid.uuid4().hex
    reply = pathlib.Path(folder, number)
    display({CALL: {"id": number, "tool": name, "arguments": arguments}}, raw=True)
    pause = 0.001
    while True:
        time.sleep(pause)
        pause = min(pause * 1.1, 0.05)
        try:
            answer = json.loads(reply.read_text())
        except (FileNotFoundError, ValueError):  # not there yet, or half written
            continue
        reply.unlink(missing_ok=True)
        if "error" in answer:
            raise ToolError(answer["error"] + elsewhere(answer["error"], arguments))
        result = answer["result"]
        return Result(result, answer["told"]) if answer.get("told") and isinstance(result, dict) else result


def elsewhere(error, arguments):
    """A tool looked on the person's machine for a file that is here."""
    named = [value for value in arguments.values() if isinstance(value, str) and value in error]
    if any(words in error for words in ("is not there", "There is no")):
        for path in named:
            if os.path.isfile(path):
                return f" It is in the sandbox, which tools do not see: give them `keep({path!r})['path']`."
    return ""


def stub(folder, tool):
    """A function with the tool's own signature and documentation."""
    kinds = inspect.Parameter
    parameters = [
        kinds(p["name"], kinds.POSITIONAL_OR_KEYWORD, default=p.get("default", kinds.empty), annotation=Hint(p["type"]))
        for p in tool["parameters"]
    ]
    signature = inspect.Signature(parameters)

    def function(*positional, **named):
        try:
            bound = signature.bind(*positional, **named)
        except TypeError as error:
            name = tool["name"]
            raise TypeError(f"{name}{signature}: {error}. help({name}) explains the arguments.") from None
        return call(folder, tool["name"], dict(bound.arguments))

    function.__name__ = function.__qualname__ = tool["name"]
    function.__doc__ = tool["doc"]
    function.__signature__ = signature
    function.__module__ = "tools"
    return function


class Hint:
    """Shows a type as it is written, without quotes."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def final_answer(answer=None):
    """Give the answer to the person and end the task: Markdown text, or a tool's result as it is."""
    display({FINAL: {"answer": plain(answer)}}, raw=True)
    raise FinalAnswer


def show(value):
    """Show a tool's result, a table or a figure to the person without ending the task."""
    display({SHOW: {"value": plain(value)}}, raw=True)


def install(folder, tools, names):
    """Put the stubs into the person's namespace."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    shell = get_ipython()
    shell.events.register("pre_run_cell", lambda info: running.set())
    shell.events.register("post_run_cell", lambda result: running.clear())
    names.update({tool["name"]: stub(folder, tool) for tool in tools})
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in every cell that loads a model
    names.update(final_answer=final_answer, show=show)
    running.set()
