"""May this training script run on the host, outside of any jail?

Only when it is word for word what its plan renders to, the plan brings nothing but constants and a mapping that merely
reads and rearranges a row, and no other script has ever worked in its folder. Everything else is generated code and
belongs into a sandbox, unless a person takes it upon themselves. The mapping is judged by what it may name: a few pure
functions and methods, nothing private, nothing that the rest of the script defines.
"""

import ast
import builtins
import symtable
from pathlib import Path

from tools.context import ToolError
from tools.plan import read_plan
from tools.training import BEGIN, END, render

JAILED = "jobs/jailed"  # in a run's folder: a script was in the jail with it
MODULES = {"json", "math", "re"}
PURE_FUNCTIONS = """
abs all any bool dict enumerate filter float int isinstance len list map max min range repr reversed round set sorted
str sum tuple zip
"""
PURE_METHODS = """
append capitalize casefold count dumps endswith extend find findall fullmatch get group index insert isdigit items join
keys loads lower lstrip match partition pop removeprefix removesuffix replace rpartition rsplit rstrip search setdefault
split splitlines startswith strip sub title update upper values
"""
FUNCTIONS, METHODS = MODULES | set(PURE_FUNCTIONS.split()), set(PURE_METHODS.split())
NEVER = (ast.ClassDef, ast.AsyncFunctionDef, ast.Global, ast.Nonlocal, ast.ImportFrom, ast.With, ast.Await, ast.Delete)


def distrust(folder: Path) -> str | None:
    """Why the script of a run must not run on the host, or None when it may."""
    if (folder / JAILED).exists():
        return "what lies in its folder was left by a script that was run in a sandbox"
    text = (folder / "train.py").read_text(encoding="utf-8")
    try:
        meant = render(read_plan((folder / "plan.json").read_text(encoding="utf-8")), folder.name)
    except (ToolError, OSError) as error:
        return f"its plan renders no script to compare it with ({str(error).splitlines()[0]})"
    if text != meant:
        return "train.py is not what its plan renders to: it was edited"
    return foreign(text)


def foreign(text: str) -> str | None:
    """What in the plan's part of a rendered script is more than constants and a pure mapping."""
    head, _, rest = text.partition(BEGIN)
    block, _, body = rest.partition(END)
    own = taken(head) | taken(body)
    code = []
    for node in ast.parse(block).body:
        if isinstance(node, ast.FunctionDef) and node.name == "reward":
            return "its plan brings a reward function of its own"
        if rewards_code(node):
            return "its reward runs the code that the model under training writes"
        code.append(node)
    return impure(ast.Module(code, []), own)


def rewards_code(node: ast.stmt) -> bool:
    """`REWARDS = [..., "code", ...]`."""
    named = isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "REWARDS" for t in node.targets)
    return named and "code" in ast.literal_eval(node.value)  # type: ignore[attr-defined]


def taken(text: str) -> set[str]:
    """Names a module binds, by whatever means."""
    return {one.get_name() for one in symtable.symtable(text, "script", "exec").get_symbols()}


def impure(code: ast.Module, own: set[str]) -> str | None:
    for node in ast.walk(code):
        if isinstance(node, NEVER) or getattr(node, "decorator_list", None):
            return f"its mapping holds a {type(node).__name__}"
        if isinstance(node, ast.Import) and any(one.name not in MODULES or one.asname for one in node.names):
            return f"its mapping imports {node.names[0].name}"
        if isinstance(node, ast.Attribute) and node.attr not in METHODS:
            return f"its mapping uses .{node.attr}"
    table = symtable.symtable(ast.unparse(code), "mapping", "exec")
    made = {one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported()}
    imported = {one.get_name() for one in table.get_symbols() if one.is_imported()}
    if clash := {name for name in made - imported if name in own | MODULES | set(dir(builtins)) or name[0] == "_"}:
        return f"its mapping defines {', '.join(sorted(clash))}, which has another meaning there"
    for name in outside(table):
        if name not in FUNCTIONS | made:
            return f"its mapping names {name}"
    return None


def outside(table: symtable.SymbolTable) -> set[str]:
    """What the functions below a table look up in the module or among the builtins."""
    top = table.get_type() == "module"
    found = {one.get_name() for one in table.get_symbols() if one.is_referenced() and (top or one.is_global())}
    return found.union(*(outside(child) for child in table.get_children()))
