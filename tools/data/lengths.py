"""How long the rows are in tokens, and what a limit would cut.

With a tokenizer on disk, in the Hub's cache or to be fetched: measured on a sample of rows, with what its chat template
adds. Without one every row counts as its bytes / 4, and that is said. Rows beyond 50,000 bytes are scaled up.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.context import ToolError, here
from tools.data.scan import CLIP, Tally, bin_start

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
BYTES_A_TOKEN, A_TURN = 4.0, 5.0


@dataclass
class Counter:
    """Counts tokens. `tokenizer` None: it only estimates."""

    name: str | None
    note: str
    tokenizer: Any = None
    a_turn: float = A_TURN  # tokens a chat template adds to each message

    def count(self, texts: list[str]) -> list[int]:
        if self.tokenizer is None:
            return [round(len(text.encode(errors="replace")) / BYTES_A_TOKEN) for text in texts]
        clean = [text.encode(errors="replace").decode() for text in texts]
        return [len(one.ids) for one in self.tokenizer.encode_batch_fast(clean, add_special_tokens=False)]


def counter(name: str | None) -> Counter:
    """The tokenizer of that folder, file or model id; an estimate when it cannot be had."""
    if not name:
        return Counter(None, "No tokenizer named: tokens are estimated as bytes / 4.")
    from tokenizers import Tokenizer

    try:
        path = tokenizer_file(name)
        tokenizer = Tokenizer.from_file(str(path))
    except ToolError as problem:
        return Counter(None, f"The tokenizer of {name} cannot be had ({problem}) Tokens are estimated as bytes / 4.")
    except Exception as error:  # the library raises plain Exception for a file it cannot read
        return Counter(None, f"{name} holds no tokenizer that can be read ({str(error)[:80]}): estimated as bytes / 4.")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Counter(name, f"Counted with the tokenizer of {name}.", tokenizer, template_cost(path.parent, tokenizer))


def tokenizer_file(name: str) -> Path:
    local = (here().folder / Path(name).expanduser()).resolve()
    if local.is_dir() and (local / FILES[0]).is_file():
        return local / FILES[0]
    if local.is_file():
        return local
    if local.is_dir() or name.startswith(("/", ".", "~")):
        raise ToolError(f"There is no {FILES[0]} in {name}.")
    from tools.hubs.cache import cached_file
    from tools.hubs.client import ask, endpoint, offline
    from tools.hubs.place import Place

    if offline():
        return cached_file(Place("model", name, None, FILES[0]))
    from huggingface_hub import constants, snapshot_download

    def question(api: Any) -> str:
        return snapshot_download(
            name, allow_patterns=list(FILES), token=api.token, endpoint=endpoint(), cache_dir=constants.HF_HUB_CACHE
        )

    folder, _ = ask(question)
    if not (Path(folder) / FILES[0]).is_file():
        raise ToolError(f"{name} has no {FILES[0]}.")
    return Path(folder) / FILES[0]


def template_cost(folder: Path, tokenizer: Any) -> float:
    """Tokens that the chat template puts around a message, from one that is known."""
    path = folder / "chat_template.jinja"
    if not path.is_file():
        return A_TURN
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    chat = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}] * 4
    try:
        shown = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(path.read_text())
        whole = len(tokenizer.encode(shown.render(messages=chat), add_special_tokens=False).ids)
        bare = sum(len(tokenizer.encode(one["content"], add_special_tokens=False).ids) for one in chat)
    except (TemplateError, TypeError, ValueError):
        return A_TURN
    return max(0.0, (whole - bare) / len(chat))


def measure(tally: Tally, tokens: Counter, max_length: int) -> dict[str, Any]:
    """The distribution over all rows; from a sample when a tokenizer counts."""
    good = int(tally.bins.sum())
    if not good:
        return {}
    sample = sorted(tally.sample)
    if tokens.tokenizer is None or not sample:
        starts = np.array([(bin_start(n) + bin_start(n + 1) - 1) / 2 for n in range(len(tally.bins))])
        turns = tally.turns / good * tokens.a_turn
        lengths, weights, measured = starts / BYTES_A_TOKEN + turns, tally.bins.astype(float), good
        longest = tally.longest[0] / BYTES_A_TOKEN + turns
        total = tally.text_bytes / BYTES_A_TOKEN + tally.turns * tokens.a_turn
    else:
        counts = np.array(tokens.count([text for *_, text in sample]), float)
        sizes = np.array([size for _, size, _, _ in sample], float)
        clipped = counts * np.maximum(1.0, sizes / CLIP)
        lengths = clipped + np.array([turns for _, _, turns, _ in sample]) * tokens.a_turn
        rate = clipped.sum() / max(sizes.sum(), 1)
        weights, measured = np.full(len(lengths), good / len(lengths)), len(lengths)
        longest = max(lengths.max(), tally.longest[0] * rate)
        total = tally.text_bytes * rate + tally.turns * tokens.a_turn
    lengths = np.minimum(lengths, longest)
    order = np.argsort(lengths)
    share, ordered = np.cumsum(weights[order]) / weights.sum(), lengths[order]
    points = {f"p{p}": int(ordered[min(int(np.searchsorted(share, p / 100)), len(order) - 1)]) for p in (5, 50, 90, 99)}
    over = float(weights[lengths > max_length].sum())
    cut = float((weights * np.maximum(lengths - max_length, 0)).sum())
    return {
        "tokenizer": tokens.name,
        "estimated": tokens.tokenizer is None,
        "rows_measured": measured,
        "mean": round(total / good, 1),
        **points,
        "longest": int(longest),
        "total": int(total),
        "max_length": max_length,
        "rows_over": round(over),
        "share_over": round(over / good, 4),
        "share_of_tokens_cut": round(cut / max(float((weights * lengths).sum()), 1), 4),
        "histogram": histogram(lengths, weights),
        "note": tokens.note,
    }


def histogram(lengths: np.ndarray, weights: np.ndarray) -> list[list[int]]:
    """From, to, rows: in doublings."""
    top = max(1, int(np.ceil(np.log2(max(lengths[weights > 0].max(), 2) + 1))))
    edges = np.concatenate(([0], 2.0 ** np.arange(1, top + 1)))
    counts, _ = np.histogram(lengths, bins=edges, weights=weights)
    bins = [[int(edges[n]), int(edges[n + 1]), round(float(counts[n]))] for n in range(len(counts))]
    while len(bins) > 1 and not bins[0][2]:
        bins.pop(0)
    return bins


def picture(measured: dict[str, Any]) -> str:
    """The histogram as a PNG, base64."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bins = measured["histogram"]
    figure = Figure(figsize=(7, 3), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    colours = ["#c2410c" if start >= measured["max_length"] else "#2563eb" for start, _, _ in bins]
    axes.bar(range(len(bins)), [count for *_, count in bins], color=colours, width=0.9)
    axes.set_xticks(range(len(bins)), [f"{start:,}" for start, _, _ in bins], rotation=30, fontsize=8)
    guess = "estimated " if measured["estimated"] else ""
    axes.set_xlabel(f"{guess}tokens a row, from")
    axes.set_ylabel("rows")
    axes.set_title(
        f"max_length {measured['max_length']:,}: {measured['share_over']:.1%} of the rows are longer", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return base64.b64encode(stream.getvalue()).decode()
