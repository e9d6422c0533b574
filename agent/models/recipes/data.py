"""Describe a data file: its columns, what is missing, the spread of its numbers, a picture."""

import re

from agent.models.recipes.transcript import Recipe, Turn, block, step

FILE = re.compile(
    r"\b(?:describe|profile|summari[sz]e|look at|what(?: is|'s) in)\b"
    r".*?(?P<path>[\w./~-]+\.(?:csv|tsv|jsonl?|parquet))\b",
    re.I,
)

LOAD = """
from pathlib import Path
import pandas as pd
path = Path({name!r})
readers = {{".csv": pd.read_csv, ".tsv": lambda p: pd.read_csv(p, sep="\\t"), ".parquet": pd.read_parquet,
           ".jsonl": lambda p: pd.read_json(p, lines=True), ".json": pd.read_json}}
data = readers[path.suffix](path)
print(f"{{len(data):,}} rows, {{data.shape[1]}} columns, {{path.stat().st_size:,}} bytes")
print(data.head(3).to_string())
"""

COLUMNS = """
rows = []
for name in data.columns:
    column = data[name]
    known = column.dropna()
    plain = known.astype(str)
    spread = ""
    if pd.api.types.is_numeric_dtype(column) and len(known):
        spread = f"{known.min():.4g} to {known.max():.4g}, median {known.median():.4g}"
    elif len(known):
        top = plain.value_counts()
        spread = f"most often {top.index[0][:40]!r} ({top.iloc[0]})"
    rows.append({"column": name, "type": str(column.dtype), "missing": int(column.isna().sum()),
                 "different": int(plain.nunique()), "values": spread})
columns = pd.DataFrame(rows)
show(columns)
print(columns.to_string())
"""

PLOT = """
import matplotlib.pyplot as plt
numbers = list(data.select_dtypes("number").columns)[:6]
if numbers:
    figure, axes = plt.subplots(1, len(numbers), figsize=(3.2 * len(numbers), 2.8), squeeze=False)
    for axis, name in zip(axes[0], numbers):
        axis.hist(data[name].dropna(), bins=20); axis.set_title(name)
    figure.tight_layout(); plt.show()
print("pictures of:", ", ".join(numbers) or "nothing, there is no column of numbers")
"""

TELL = """
missing = columns[columns["missing"] > 0]
doubles = int(data.astype(str).duplicated().sum())
final_answer(f"**{path.name}**: {len(data):,} rows, {data.shape[1]} columns. "
             + (f"{doubles} rows are exact doubles. " if doubles else "No row is an exact double. ")
             + (f"Values are missing in {', '.join(missing['column'])}." if len(missing) else "Nothing is missing.")
             + "\\n\\n" + "\\n".join(f"- `{row.column}` ({row.type}): {row.different} different, {row.values}"
                                    for row in columns.itertuples()))
"""


def load(found: re.Match[str], turn: Turn) -> str:
    return block("I load the file and look at its first rows.", LOAD.format(name=found["path"]))


def columns(found: re.Match[str], turn: Turn) -> str:
    return step(turn, "I look at each column.", COLUMNS)


def plot(found: re.Match[str], turn: Turn) -> str:
    return step(turn, "I draw the spread of the numbers.", PLOT)


def tell(found: re.Match[str], turn: Turn) -> str:
    return step(turn, "That is enough for a description.", TELL)


RECIPES = [Recipe("describe data", "describe data.csv", FILE, (load, columns, plot, tell))]
