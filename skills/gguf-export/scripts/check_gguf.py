# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "safetensors", "numpy==2.4.6"]
# ///
"""Read a GGUF file back: header, tensors, and with --against how far its weights are from the model's. Prints JSON.

Exit code 1 when the file is damaged or differs more than its type allows. K-quants are listed, not decoded.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import gguf_file as gguf
import numpy as np

SHOWN = ("block_count", "context_length", "embedding_length", "attention.head_count", "rope.freq_base")
ALLOWED = {"f32": 1e-7, "f16": 1e-3, "bf16": 8e-3, "q8_0": 8e-3}  # beside the largest weight of the tensor


def facts(path: Path, found: gguf.Read) -> dict[str, Any]:
    values = found.values
    name = values.get("general.architecture", "?")
    tokens = values.get("tokenizer.ggml.tokens", [])
    eos = values.get("tokenizer.ggml.eos_token_id")
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "architecture": name,
        "tensors": dict(Counter(kind for kind, *_ in found.tensors.values())),
        **{key: values.get(f"{name}.{key}") for key in SHOWN},
        "vocabulary": len(tokens),
        "eos": tokens[eos] if eos is not None and eos < len(tokens) else None,
        "chat_template": "tokenizer.chat_template" in values,
    }


def worst_against(path: Path, found: gguf.Read, folder: Path) -> dict[str, Any]:
    """Per tensor type the largest difference, beside the largest weight of its tensor."""
    from to_gguf import checked, tensors_of

    source = {one.name: one for one in tensors_of(folder, checked(folder), "f32")}
    missing = sorted(source.keys() ^ found.tensors.keys())
    worst: dict[str, float] = {}
    for name, values in gguf.contents(path, found):
        if name in source:
            wanted = source[name].data()
            kind = found.tensors[name][0]
            error = float("inf")
            if wanted.shape == values.shape:
                error = float(np.abs(wanted - values).max() / max(float(np.abs(wanted).max()), 1e-12))
            worst[kind] = max(worst.get(kind, 0.0), error)
    fine = not missing and all(error <= ALLOWED[kind] for kind, error in worst.items())
    return {"ok": fine, "largest_relative_error": worst, "not_in_both": missing[:5]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", type=Path, help="the model it was made from")
    args = parser.parse_args()
    try:
        found = gguf.read(args.file)
        told = {"ok": True, **facts(args.file, found)}
        if args.against:
            told |= worst_against(args.file, found, args.against)
    except (OSError, ValueError, KeyError) as error:
        print(json.dumps({"ok": False, "file": str(args.file), "why": str(error)}))
        return 1
    print(json.dumps(told, indent=2))
    return 0 if told["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
