# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""GRPO: the model tries several answers to a prompt and moves towards those with the higher reward.

Rows: `prompt` and what the rewards read: `answer` (exact_match, math) or `tests` (code).

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "Qwen/Qwen3-0.6B", None
DATASET, CONFIG, SPLIT = "openai/gsm8k", "main", "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "lora"  # lora, qlora (NVIDIA GPU), or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 1e-5, 0.1, "cosine"  # full training wants about a tenth
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 8, 2
BETA = 0.0  # how strongly it is held to the model it starts from
GENERATIONS, NEW_TOKENS, TEMPERATURE = 8, 256, 1.0  # BATCH x ACCUMULATION must be a multiple of GENERATIONS
REWARDS = ["math"]  # exact_match, math, code, format, own; their sum counts
FORMAT = r"<think>.*?</think>.*"  # what the whole answer looks like, for the reward "format"
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "bfloat16", True, False, "flash_attention_2", True
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "grpo"
EVAL_ROWS = 64  # held-out prompts that are answered and rewarded before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    prompt = [{"role": "user", "content": row["question"]}]
    return [{"prompt": prompt, "answer": row["answer"]}]


def reward(completions, answer, **_):
    """An example of a reward of one's own, chosen as "own": one number (or None: does not apply) per completion."""
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [1.0 / (1 + abs(len(text) - len(str(wanted)))) for text, wanted in zip(texts, answer, strict=True)]


# --- end of the plan ---

from kit_rewards import NEEDS, chosen_rewards
from kit_run import REHEARSAL, RUN, Evaluation, outcome, run, save, train
from kit_scoring import answers, as_text, shown, templated
from kit_setup import attention, dtype, four_bit, load_rows, lora, prepare_model, settings
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer


def main():
    # 1. The prompts, and some of them held out.
    needed = ("prompt", *(NEEDS[name] for name in REWARDS if name in NEEDS))
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, needed, SEED, EVAL_SPLIT, EVAL_SHARE)
    rewards = chosen_rewards(REWARDS, FORMAT, reward)

    # 2. Model, tokenizer, trainer. No early stopping: judge by the reward, the loss stays near 0 in a healthy run.
    model = prepare_model(AutoModelForCausalLM, MODEL, REVISION)
    tokenizer = AutoTokenizer.from_pretrained(model, revision=None if REHEARSAL else REVISION)
    texts = [templated(tokenizer, prompt) for prompt in rows[:200]["prompt"]]
    outcome.note(longest=max(len(tokenizer(text)["input_ids"]) for text in texts) + NEW_TOKENS)
    args = GRPOConfig(
        **settings(
            output_dir=str(RUN / "checkpoints"),
            seed=SEED,
            data_seed=SEED,
            model_init_kwargs={
                "revision": None if REHEARSAL else REVISION,
                "dtype": dtype(DTYPE),
                "attn_implementation": attention(ATTENTION),
            },
            learning_rate=LEARNING_RATE,
            warmup_steps=WARMUP_STEPS,
            lr_scheduler_type=SCHEDULER,
            num_train_epochs=EPOCHS,
            max_steps=MAX_STEPS,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=ACCUMULATION,
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
            optim=OPTIM,
            bf16=BF16,
            fp16=FP16,
            gradient_checkpointing=CHECKPOINTING,
            num_generations=GENERATIONS,
            max_completion_length=16 if REHEARSAL else NEW_TOKENS,
            temperature=TEMPERATURE,
            beta=BETA,
            log_completions=False,
            logging_steps=LOG_STEPS,
            save_strategy="steps",
            save_steps=EVAL_STEPS,
            save_total_limit=2,
            project=PROJECT,
            run_name=RUN_NAME,
        )
    )
    trainer = GRPOTrainer(
        model,
        reward_funcs=rewards,
        args=args,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora(ADAPTER, **LORA),
        quantization_config=four_bit(ADAPTER),
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(tokenizer, held_out, rewards)
    measured.by("before", trainer.model)
    train(trainer)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, tokenizer, AutoModelForCausalLM)


class Measured:
    """The rewards of greedy answers to held-out prompts."""

    def __init__(self, tokenizer, held_out, rewards):
        some = held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []
        self.tokenizer, self.rows, self.rewards = tokenizer, list(some), rewards
        told = [
            {"prompt": shown(as_text(row["prompt"])), "reference": shown(str(row.get("answer", "")))}
            for row in self.rows
        ]
        self.evaluation = Evaluation("reward", True, told)

    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        prompts = [row["prompt"] for row in self.rows]
        texts = answers(model, self.tokenizer, prompts, 8 if REHEARSAL else NEW_TOKENS, keep_thinking=True)
        chat = not isinstance(prompts[0], str)
        completions = [[{"role": "assistant", "content": text}] if chat else text for text in texts]
        columns = {name: [row[name] for row in self.rows] for name in self.rows[0] if name != "prompt"}
        each = {
            name: function(prompts=prompts, completions=completions, **columns)
            for name, function in zip(REWARDS, self.rewards, strict=True)
        }
        total = [sum(one or 0.0 for one in given) for given in zip(*each.values(), strict=True)]
        self.evaluation.record(when, reward=total, **each, answers=[shown(text) for text in texts])


if __name__ == "__main__":
    run(main)
