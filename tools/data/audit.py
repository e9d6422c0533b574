"""The whole audit of one dataset: first rows, form, scan of every row, duplicates, verdicts, problems. Plain facts.

The form decides which columns are looked at. Every row is parsed, mapped, checked, measured in bytes and searched;
tokens and languages are counted on a sample of about 20,000 rows; near duplicates are looked for in up to 20 million
rows. Keys for duplicates lie in a temporary folder, about 200 bytes a row.
"""

import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.context import here
from tools.data import duplicates, language, lengths, methods, privacy, problems
from tools.data.first import first_rows, repeated_columns
from tools.data.following import prepare_first, told_next
from tools.data.forms import recognise
from tools.data.labels import MOST_LABELS, too_many
from tools.data.mapping import LABELLED, PICTURES, PROGRAMS, program
from tools.data.rows import texts_in
from tools.data.scan import MOST_KINDS, Tally, Task
from tools.data.shape import Form, Row
from tools.data.source import Source, folder_of, open_source
from tools.data.workers import scan_all

SAMPLE, MOST_NEAR = 20_000, 20_000_000
EXAMPLES, EXAMPLE = 2, 600


def audit(path: str, method: str | None, tokenizer: str | None, max_length: int, split: str | None) -> dict[str, Any]:
    source = open_source(path, split)
    rows = first_rows(source)
    forms = recognise(rows, folder=folder_of(source.parts[0]))
    chosen = methods.method_name(method) if method else methods.best_method(forms)
    tokens = lengths.counter(tokenizer)
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        task = task_for(source, rows, forms, chosen, Path(folder))
        tally = scan_all(task, source.parts, source.size)
        places = problems.Places(source, tally.lines)
        found = problems.from_tally(tally, places)
        found += repeats(task, tally, places)
    labels = sorted_labels(tally.labels)
    verdicts = [methods.judge(one, forms, rows) for one in PROGRAMS]
    if len(labels) > MOST_LABELS and chosen and (form := methods.form_for(chosen, forms)):
        verdicts = [methods.refused(chosen, too_many(path, form)) if one.method == chosen else one for one in verdicts]
    measured = lengths.measure(tally, tokens, max_length)
    schema = schema_of(tally)
    mixed = {name: list(facts["types"]) for name, facts in schema.items() if is_mixed(list(facts["types"]))}
    uneven = labels if task.label else Counter()  # of pictures with several objects none can be chosen by its label
    found += problems.from_facts(tally.rows, source.splits, measured, uneven, mixed, repeated_columns(source))
    why = prepare_first(source, found, schema, forms)
    return {
        "path": path,
        "method": chosen,
        "prepare_first": why,
        "next": told_next(path, chosen, verdicts, why),
        "form": forms[0].name if forms else None,
        "rows": tally.rows,
        "good_rows": sum(tally.by_split.values()),
        "splits": {name: tally.by_split[name] for name in source.splits},
        "bytes": source.size,
        "files": len(source.files),
        "fingerprint": source.fingerprint(),
        "license": source.license,
        "verdicts": {one.method: {k: v for k, v in asdict(one).items() if k != "method"} for one in verdicts},
        "problems": found,
        "schema": schema,
        "labels": {str(label): count for label, count in labels.most_common(50)},
        "languages": language.balance([text for *_, text in sorted(tally.sample)[:SAMPLE]]),
        "lengths": measured,
        "examples": [shown(row) for row in rows[:EXAMPLES]],
        "notes": source.notes + notes_of(task, tally),
    }


def task_for(source: Source, rows: list[Row], forms: list[Form], method: str | None, folder: Path) -> Task:
    """What to scan for: the form that the method takes, else only the texts."""
    form = methods.form_for(method, forms) if method else None
    code = program(form, method) if form and method else None
    label = None
    if form and method in LABELLED | {"kto"}:
        label = form.columns.get("tags") or form.columns.get("label")
    average = sum(len(text) for row in rows for text in texts_in(row)) / len(rows) + 20 * len(rows[0]) + 20
    packed = any(file.packed or file.format in ("parquet", "arrow") for file in source.files)
    about = max(1, int(source.size * (4 if packed else 1) / average))
    return Task(
        method=method if code else None,
        code=code,
        columns=form.columns if form and code else {},
        label=label,
        folder=folder,
        rows=about,
        share=min(1.0, SAMPLE / about) if about > SAMPLE else 1.0,
        near=about < MOST_NEAR and method not in PICTURES,
        splits=len(source.splits) > 1,
        pictures=bool(code) and method in PICTURES,
    )


def repeats(task: Task, tally: Tally, places: problems.Places) -> list[dict[str, Any]]:
    exact = duplicates.exact_pairs(duplicates.Spill(task.folder, "exact", task.rows))
    found = problems.duplicates(exact, False, tally.rows, places)
    here().check()
    if task.near:
        spill = duplicates.Spill(task.folder, "near", task.rows * duplicates.BANDS)
        near = duplicates.near_pairs(task.folder, spill, exact[:, 1])
        found += problems.duplicates(near, True, tally.rows, places)
    if task.splits:
        asked = duplicates.exact_pairs(duplicates.Spill(task.folder, "asked", task.rows))
        found += problems.leaks(asked, tally.rows, places)
    return found


def sorted_labels(labels: Counter[Any]) -> Counter[Any]:
    return Counter({label: labels[label] for label in sorted(labels, key=lambda one: (type(one).__name__, one))})


def schema_of(tally: Tally) -> dict[str, dict[str, Any]]:
    """Types of each column with their counts, over all rows."""
    total = sum(tally.kinds.values())
    found: dict[str, Counter[str]] = {}
    for (names, kinds), count in tally.kinds.items():
        for name, kind in zip(names, kinds, strict=True):
            found.setdefault(name, Counter())[kind] += count
    return {
        name: {
            "types": {
                kind: count for kind, count in sorted(types.items(), key=lambda one: -one[1]) if kind != "NoneType"
            },
            "empty": types["NoneType"],
            "missing": total - sum(types.values()),
        }
        for name, types in sorted(found.items())
    }


def is_mixed(types: list[str]) -> bool:
    return len(set(types) - {"int", "float"}) + bool(set(types) & {"int", "float"}) > 1


def shown(value: Any) -> Any:
    """A row to show: clipped, without bytes, with personal data masked."""
    if type(value) is str:
        clean = privacy.masked(value[: EXAMPLE * 2].encode(errors="replace").decode())
        return clean if len(clean) <= EXAMPLE and len(value) <= EXAMPLE * 2 else clean[:EXAMPLE] + "…"
    if type(value) is bytes:
        return f"<{len(value):,} bytes>"
    if type(value) is dict:
        return {str(name): shown(one) for name, one in value.items()}
    if type(value) is list:
        return [shown(one) for one in value[:8]] + ([f"… {len(value) - 8} more"] if len(value) > 8 else [])
    return value if isinstance(value, int | float | bool | None) else str(value)


def notes_of(task: Task, tally: Tally) -> list[str]:
    notes = []
    if task.code is None:
        notes.append(
            "The form is not recognised or not one for this method: rows were only checked for being readable."
        )
    if task.rows >= MOST_NEAR:
        notes.append("Too many rows for near duplicates: only exact ones were looked for.")
    if len(tally.kinds) >= MOST_KINDS:
        notes.append("Very many combinations of columns: the schema tells the commonest only.")
    return notes
