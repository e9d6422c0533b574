"""Second half of a preparation: which staged rows stay, in which split, and the folder that is written for them.

The same input, cures and seed give the same bytes (with the same pyarrow). The folder appears whole or not at all; one
that this tool wrote before is replaced, any other is left alone.
"""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tools.context import ToolError, here
from tools.data import duplicates, methods
from tools.data.cures import checked
from tools.data.first import first_rows
from tools.data.forms import recognise
from tools.data.labels import MOST_LABELS, label_kind, too_many
from tools.data.mapping import LABELLED, program
from tools.data.read import read
from tools.data.shape import Form
from tools.data.source import Source, folder_of, name_of, open_source
from tools.data.stage import GROUP, Stage, Staged

MANIFEST = "manifest.json"


def prepare(
    path: str,
    method: str | None,
    cures: list[Any] | None,
    mapping: dict[str, str] | None,
    out: str | None,
    split: str | None,
    seed: int,
) -> tuple[Path, dict[str, Any]]:
    """The folder that was written and its manifest."""
    source = open_source(path, split)
    steps = checked(cures)
    rows = first_rows(source)
    forms = recognise(rows, mapping, folder_of(source.parts[0]))
    chosen = methods.method_name(method or steps[0]["method"] or methods.best_method(forms) or "sft")
    form = methods.form_for(chosen, forms)
    if form is None:
        raise ToolError(f"{path} does not fit {chosen}: {methods.why_not(chosen, forms, rows)}")
    steps[0]["method"] = chosen
    labels = all_labels(source, form) if chosen in LABELLED else None
    code = program(form, chosen)
    assert code
    target = place_for(out, f"{name_of(path)}-{chosen}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=target.parent) as name:
        folder = Path(name)
        stage = Stage(folder, source, steps, chosen, near="dedupe_near" in {one["do"] for one in steps})
        for part in source.parts:
            stage.take(part, code, form.columns)
            here().progress((part.index + 1) / len(source.parts) * 0.7, f"{stage.staged.rows_in:,} rows read")
        staged = stage.close()
        kept, splits, names = selected(stage, steps, source.splits, seed)
        made = folder / "made"
        made.mkdir()
        files = write(staged.path, made, kept, splits, names)
        manifest = {
            "source": path,
            "fingerprint": source.fingerprint(),
            "license": source.license,
            "method": chosen,
            "form": form.name,
            "columns": form.columns,
            "labels": labels,
            "mapping": code,
            "cures": steps,
            "seed": seed,
            "rows_in": staged.rows_in,
            "dropped": dict(sorted(staged.dropped.items())),
            "changed": dict(sorted(staged.changed.items())),
            "files": files,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        (made / MANIFEST).write_text(text.encode(errors="replace").decode())
        put(made, target, folder)
    return target, manifest


def all_labels(source: Source, form: Form) -> list[str] | None:
    """Every label there is, in order; None if they are numbers already."""
    column, found = form.columns.get("label") or form.columns["tags"], set[str | float]()
    for part in source.parts:
        for batch in read(part):
            here().check()
            for row in batch.rows:
                value = row.get(column)
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, int | float) or (isinstance(one, str) and one.strip()):
                        found.add(one)
            if len(found) > MOST_LABELS:
                raise ToolError(too_many(source.name, form))
    texts = [one for one in found if isinstance(one, str)]
    return sorted(texts) if label_kind(form) in ("text", "texts") else None


def place_for(out: str | None, name: str) -> Path:
    context = here()
    target = (context.folder / (out or name)).expanduser().resolve()
    homes = (context.folder.resolve(), context.home.resolve(), Path(tempfile.gettempdir()).resolve())
    if not any(target != home and target.is_relative_to(home) for home in homes):
        raise ToolError(f"{out!r} lies outside of {context.folder}. Choose a folder within it.")
    if target.exists() and not (target / MANIFEST).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise ToolError(f"{target} is already there and was not written by prepare_dataset. Choose another `out`.")
    return target


def selected(stage: Stage, steps: list[dict[str, Any]], there: list[str], seed: int) -> tuple[Any, Any, list[str]]:
    """Which rows stay, the number of the split of each, and the names of the splits."""
    staged = stage.staged
    keys = np.array(staged.keys, np.uint64)
    splits = np.array(staged.splits, np.int64)
    kept, names = np.ones(len(keys), bool), list(there)
    rank = duplicates.mixed(
        duplicates.mixed(keys + np.uint64(seed % (1 << 63))) + np.arange(len(keys), dtype=np.uint64)
    )
    for step in steps:
        before = int(kept.sum())
        match step["do"]:
            case "dedupe":
                _, first = np.unique(keys, return_index=True)
                kept[np.setdiff1d(np.arange(len(keys)), first, assume_unique=True)] = False
            case "dedupe_near":
                gone = np.flatnonzero(~kept).astype(np.uint64)
                pairs = duplicates.near_pairs(stage.folder, stage.spill, gone)
                kept[pairs[:, 1].astype(np.int64)] = False
            case "drop_leaks":
                asked, train = np.array(staged.asked, np.uint64), splits == 0
                kept &= ~(train & np.isin(asked, asked[~train]))
            case "balance":
                kept &= balanced(staged.labels, kept, rank, step["most"])
            case "sample":
                order = np.flatnonzero(kept)
                order = order[np.argsort(rank[order], kind="stable")][int(step["rows"]) :]
                kept[order] = False
            case "split":
                if not {"validation", "test"} & set(names):
                    names.append("validation")
                    splits = divided(keys, staged, kept, splits, seed, step["validation"])
        if before != kept.sum():
            staged.dropped[step["do"]] += before - int(kept.sum())
    return kept, splits, names


def balanced(labels: list[Any], kept: Any, rank: Any, most: float) -> Any:
    """No label more than `most` times as often as the rarest."""
    groups: dict[Any, list[int]] = {}
    for at in np.flatnonzero(kept):
        groups.setdefault(labels[at], []).append(int(at))
    limit = int(min(map(len, groups.values()), default=0) * most)
    stay = np.zeros(len(kept), bool)
    for places in groups.values():
        stay[sorted(places, key=lambda at: (int(rank[at]), at))[:limit]] = True
    return stay


def divided(keys: Any, staged: Staged, kept: Any, splits: Any, seed: int, share: float) -> Any:
    """A share of the rows for validation, at least one; rows that ask the same stay together."""
    asked = np.array(staged.asked, np.uint64)
    rank = duplicates.mixed(duplicates.mixed(asked + np.uint64(seed % (1 << 63))))
    places = np.flatnonzero(kept)
    wanted = max(1, round(len(places) * share)) if share and len(places) > 1 else 0
    if not wanted:
        return splits
    order = places[np.argsort(rank[places], kind="stable")]
    edge = rank[order[wanted - 1]]
    chosen = order[rank[order] <= edge]
    if len(chosen) == len(places):  # all rows ask the same
        chosen = order[:wanted]
    splits = splits.copy()
    splits[chosen] = 1
    return splits


def write(staged: Path, folder: Path, kept: Any, splits: Any, names: list[str]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pq.ParquetFile(staged)
    writers: dict[int, Any] = {}
    counts: Counter[int] = Counter()
    done = 0
    for batch in source.iter_batches(batch_size=GROUP):
        here().check()
        inside = slice(done, done + batch.num_rows)
        done += batch.num_rows
        for number in sorted(set(splits[inside].tolist())):
            chosen = kept[inside] & (splits[inside] == number)
            if not chosen.any():
                continue
            if number not in writers:
                path = folder / f"{names[number]}.parquet"
                writers[number] = pq.ParquetWriter(path, source.schema_arrow, compression="zstd")
            writers[number].write_batch(batch.filter(pa.array(chosen)))
            counts[number] += int(chosen.sum())
    for writer in writers.values():
        writer.close()
    told = {}
    for number in sorted(writers):
        path = folder / f"{names[number]}.parquet"
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        told[path.name] = {"rows": counts[number], "bytes": path.stat().st_size, "sha256": digest}
    return told


def put(made: Path, target: Path, folder: Path) -> None:
    """Rename is the last thing that happens."""
    if target.exists():
        target.rename(folder / "before")
    made.rename(target)
    shutil.rmtree(folder / "before", ignore_errors=True)
