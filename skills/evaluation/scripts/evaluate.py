# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.22.2", "peft==0.21.2"]
# ///
"""Ask a model every question of a JSONL file and score the answers. Writes a result and, beside it, every answer.

The model is a folder or id for transformers, or one behind an OpenAI-compatible server. Greedy, one answer a row.
"""

import argparse
import hashlib
import json
import math
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
LETTER = re.compile(
    r"(?:answer|choice|option)\W+(?:is\W+)?\(?([A-J])\b|^\W*([A-J])(?:\W|$)|\(([A-J])\)", re.IGNORECASE | re.MULTILINE
)
Answers = Iterator[tuple[str, bool]]  # the text, and whether it was cut at the limit


# -- scorers: is this answer right? ----------------------------------------------------------------------------------


def exact(said: str, wanted: str) -> bool:
    return said.strip().casefold() == wanted.strip().casefold()


def contains(said: str, wanted: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(wanted.strip())}(?!\w)", said, re.IGNORECASE) is not None


def number(said: str, wanted: str) -> bool:
    found, right = NUMBER.findall(said), NUMBER.findall(wanted)
    return bool(found and right) and math.isclose(value(found[-1]), value(right[-1]), rel_tol=1e-9)


def value(text: str) -> float:
    return float(text.replace(",", ""))


def letter(said: str, wanted: str) -> bool:
    found = [next(filter(None, groups)) for groups in LETTER.findall(said)]
    return bool(found) and found[-1].upper() == wanted.strip().strip("().").upper()


SCORERS: dict[str, Callable[[str, str], bool]] = {
    "exact": exact,
    "contains": contains,
    "number": number,
    "letter": letter,
}


# -- models ----------------------------------------------------------------------------------------------------------


def transformers_answers(model_id: str, talks: list[list[dict]], max_tokens: int, batch: int) -> Answers:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_id, padding_side="left")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(model_id, dtype=dtype).to(device).eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    for start in range(0, len(talks), batch):
        prompts = [prompt_of(tokenizer, talk) for talk in talks[start : start + batch]]
        special = tokenizer.chat_template is None
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=special).to(device)
        with torch.inference_mode():
            out = model.generate(
                **inputs, max_new_tokens=max_tokens, do_sample=False, temperature=None, top_p=None, top_k=None,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        for ids in out[:, inputs["input_ids"].shape[1] :].tolist():
            yield tokenizer.decode(ids, skip_special_tokens=True), not ends.intersection(ids)


def prompt_of(tokenizer: Any, talk: list[dict]) -> str:
    if tokenizer.chat_template is None:
        return "\n".join(turn["content"] for turn in talk)
    return tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True, enable_thinking=False)


def server_answers(url: str, name: str, key: str, talks: list[list[dict]], max_tokens: int) -> Answers:
    for talk in talks:
        body = {"model": name, "messages": talk, "max_tokens": max_tokens, "temperature": 0}
        body["chat_template_kwargs"] = {"enable_thinking": False}
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            choice = json.loads(answer.read())["choices"][0]
        yield choice["message"].get("content") or "", choice.get("finish_reason") == "length"


# -- the run ---------------------------------------------------------------------------------------------------------


def read(path: Path, limit: int | None) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()][:limit]
    for at, row in enumerate(rows, 1):
        if "answer" not in row or not ("prompt" in row or "messages" in row):
            raise ValueError(f"row {at} needs prompt (or messages) and answer, it has {', '.join(row)}")
    if not rows:
        raise ValueError("there are no rows")
    return rows


def talk_of(row: dict[str, Any], system: str | None) -> list[dict[str, str]]:
    asked = row.get("messages", row.get("prompt"))
    talk = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
    return [{"role": "system", "content": system}, *talk] if system else talk


def spoken(text: str) -> str:
    """The answer without the thoughts before it, closed or not."""
    return text.rpartition("</think>")[2].strip() if "</think>" in text else text.partition("<think>")[0].strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL with prompt or messages, and answer")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--model", help="folder or id for transformers")
    where.add_argument("--url", help="of an OpenAI-compatible server, with /v1")
    parser.add_argument("--name", default="default", help="the model's name on the server")
    parser.add_argument("--key", default="none", help="the server's key")
    parser.add_argument("--scorer", choices=SCORERS, required=True)
    parser.add_argument("--system", help="a system message before each question")
    parser.add_argument("--limit", type=int, help="only the first rows")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--out", type=Path, required=True, help="result as JSON; the answers go into the .jsonl beside it"
    )
    args = parser.parse_args()
    try:
        rows = read(args.data, args.limit)
    except (OSError, ValueError) as error:
        print(f"{args.data} cannot be used: {error}.", file=sys.stderr)
        return 2
    started = time.monotonic()
    talks = [talk_of(row, args.system) for row in rows]
    if args.model:
        answers = transformers_answers(args.model, talks, args.max_tokens, args.batch)
    else:
        answers = server_answers(args.url, args.name, args.key, talks, args.max_tokens)
    try:
        scored = [
            {"row": at, "answer": str(row["answer"]), "said": said, "cut": cut}
            for at, (row, (said, cut)) in enumerate(zip(rows, answers, strict=True), 1)
        ]
    except (urllib.error.URLError, OSError, KeyError) as error:
        print(f"{args.model or args.url} does not answer: {error}. Check the model or the server.", file=sys.stderr)
        return 2
    for one in scored:
        one["right"] = SCORERS[args.scorer](spoken(one["said"]), one["answer"])
    args.out.with_suffix(".jsonl").write_text(
        "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in scored), "utf-8"
    )
    score = sum(one["right"] for one in scored) / len(scored)
    told = {
        "model": args.model or args.name,
        "score": round(score, 6),
        "stderr": round(math.sqrt(score * (1 - score) / len(scored)), 6),
        "n": len(scored),
        "cut_off": sum(one["cut"] for one in scored),
        "settings": {"scorer": args.scorer, "max_tokens": args.max_tokens, "system": args.system, "greedy": True},
        "data": {
            "file": args.data.name,
            "sha256": hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest(),
        },
        "seconds": round(time.monotonic() - started, 1),
        "right": [one["right"] for one in scored],
    }
    args.out.write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    print(json.dumps({name: value for name, value in told.items() if name != "right"}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
