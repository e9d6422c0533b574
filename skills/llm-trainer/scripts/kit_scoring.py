"""Measuring a language model on held-out rows: the loss of a completion, and the answer it gives itself.

The same code runs before and after training, independent of the trainer, so that the two can be compared.
"""

import json
import re

import torch
from kit_run import Fault, outcome

AT_ONCE = 8


def turns(row):
    """A row as prompt, completion and tools, whatever its shape: messages, prompt and completion, or text."""
    if "messages" in row:
        last = max((i for i, one in enumerate(row["messages"]) if one["role"] == "assistant"), default=None)
        if last is None:
            raise Fault("labels", "A row has no assistant turn.", "Map its roles to user and assistant.")
        return row["messages"][:last], [row["messages"][last]], tools_of(row)
    if "text" in row:
        return "", row["text"], None
    return row["prompt"], row["completion"], tools_of(row)


def tools_of(row):
    """A row's tools, which may lie there as JSON text: a table cannot keep schemas of different shape otherwise."""
    tools = row.get("tools")
    return json.loads(tools) if isinstance(tools, str) and tools else tools


def preference(row):
    """Prompt, chosen and rejected; a prompt that both carry in front is taken apart."""
    if "prompt" in row:
        return row["prompt"], row["chosen"], row["rejected"]
    good, bad = row["chosen"], row["rejected"]
    if isinstance(good, str):
        return "", good, bad
    same = next((i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b), min(len(good), len(bad)))
    same = min(same, len(good) - 1, len(bad) - 1)
    return good[:same], good[same:], bad[same:]


def encode(tokenizer, prompt, completion, tools=None):
    """Token ids of both together, and where the completion starts."""
    if isinstance(prompt, str):
        start = tokenizer(prompt)["input_ids"] if prompt else []
        return start + tokenizer(completion, add_special_tokens=not start)["input_ids"], len(start)
    whole = tokenizer.apply_chat_template(prompt + completion, tools=tools)["input_ids"]
    start = tokenizer.apply_chat_template(prompt, tools=tools, add_generation_prompt=True)["input_ids"]
    same = next((i for i, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), min(len(start), len(whole)))
    return whole, same


@torch.inference_mode()
def losses(model, tokenizer, rows, max_length=None):
    """Of each row: the summed negative log-probability of its completion, and how many tokens that is."""
    was_training, found = model.training, []
    model.eval()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    for begin in range(0, len(rows), AT_ONCE):
        outcome.check()
        coded = [encode(tokenizer, *row) for row in rows[begin : begin + AT_ONCE]]
        coded = [(ids[:max_length], start) for ids, start in coded]
        longest = max(len(ids) for ids, _ in coded)
        ids = torch.tensor([one + [pad] * (longest - len(one)) for one, _ in coded], device=model.device)
        mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one, _ in coded], device=model.device)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        for values, (one, start) in zip(each, coded, strict=True):
            told = values[max(start - 1, 0) : len(one) - 1]
            found.append((told.sum().item(), len(told)))
    model.train(was_training)
    return found


def mean_losses(model, tokenizer, rows, max_length=None):
    return [total / count if count else None for total, count in losses(model, tokenizer, rows, max_length)]


@torch.inference_mode()
def answers(model, tokenizer, prompts, new_tokens, keep_thinking=False):
    """Greedy answers, as a reader sees them: without the thinking, unless that is what is judged."""
    was_training, found, side = model.training, [], tokenizer.padding_side
    model.eval()
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for begin in range(0, len(prompts), AT_ONCE):
        outcome.check()
        texts = [templated(tokenizer, prompt) for prompt in prompts[begin : begin + AT_ONCE]]
        batch = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=isinstance(prompts[begin], str))
        batch = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        made = model.generate(**batch, max_new_tokens=new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        found += tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    tokenizer.padding_side = side
    model.train(was_training)
    return [text if keep_thinking else re.sub(r"(?s)<think>.*?</think>", "", text).strip() for text in found]


def templated(tokenizer, prompt):
    if isinstance(prompt, str):
        return prompt
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)


def plain(text):
    """What is compared when an answer must be exactly the reference."""
    return " ".join(str(text).casefold().split())


def as_text(turn):
    return turn if isinstance(turn, str) else "\n".join(str(one.get("content") or "") for one in turn)


def shown(text, most=2000):
    return text if len(text) <= most else text[:most] + " …"
