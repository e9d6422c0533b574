"""What follows an audit: whether a training script can read the data as it lies, or must have it prepared first.

A script reads with `datasets`, which one broken row stops, wherever it stands. What is doubtful counts as a no:
preparing is safe, and costs a copy.
"""

from typing import Any

from tools.data.methods import Verdict
from tools.data.shape import Form
from tools.data.source import Source, local_path, plain_suffix

STOPS = {"broken": "rows that cannot be read", "empty": "rows in which something needed is empty"}
STOPS |= {"half characters": "text no tokenizer takes", "mixed_types": "a column of several types"}
STOPS |= {"repeated_column": "a column that stands there twice"}
SUFFIXES = {"jsonl": {"jsonl", "json"}, "parquet": {"parquet"}}


def prepare_first(source: Source, problems: list[dict[str, Any]], schema: dict[str, Any], forms: list[Form]) -> str:
    """Why the data cannot be trained on as it lies; "" when it can."""
    for one in problems:
        if one["id"] in STOPS:
            return f"it has {STOPS[one['id']]}"
    if any(one["missing"] for one in schema.values()):
        return "not every row has all columns"
    if forms and forms[0].details.get("arguments") == "object":
        return "the arguments of its tool calls have no common columns"
    if forms and "image" in forms[0].kinds and not images_marked(source):
        return "a script would not see its images as images"
    if local_path(source.name) is None:
        named = source.name.count("/") > 1 or "://" in source.name
        return "a part of a repository is named" if named else ""
    kinds = {(file.format, file.packed, plain_suffix(file.name)) for file in source.files}
    if len(kinds) > 1:
        return "its files are of several kinds"
    form, packed, suffix = kinds.pop()
    if suffix not in SUFFIXES.get(form, ()):
        kind = form if suffix == form else f"{form} named .{suffix}"
        return f"the script reads jsonl and parquet, and this is {kind}"
    if packed not in ("", "gz"):  # `datasets` takes zst only with a package that is not in the pinned set
        return f"the script does not unpack {packed}"
    if len(source.splits) > 1 and any(file.split not in file.name.split(".")[0] for file in source.files):
        return "its splits are not told by the names of the files"
    return ""


def images_marked(source: Source) -> bool:
    """Whether every file says which of its columns are images, as `datasets` writes it."""
    import pyarrow.parquet as pq

    files = [file for file in source.files if file.format == "parquet"]
    return len(files) == len(source.files) and all(
        b'"Image"' in (pq.read_schema(file.path).metadata or {}).get(b"huggingface", b"") for file in files
    )


def told_next(path: str, method: str | None, verdicts: list[Verdict], why: str) -> str:
    fits = any(one.method == method and one.verdict != "incompatible" for one in verdicts)
    if not method or not fits:
        usable = [one.method for one in verdicts if one.verdict != "incompatible"]
        other = f"Choose one that fits ({', '.join(usable)})" if usable else "Name the columns by role in `mapping`"
        return f"**Next**: it does not fit {method or 'any method'} as it is. {other} for prepare_dataset({path!r}, …)."
    if why:
        call = f"prepare_dataset({path!r}, method={method!r})"
        return f"**Next**: `{call}`, and train on the folder that it writes, because {why}."
    return f"**Next**: `plan_training(model, {path!r})`; the data can be trained on as it lies."
