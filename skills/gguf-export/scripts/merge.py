# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.22.2", "peft==0.21.2"]
# ///
"""Add a LoRA adapter to its base model and save the whole, with the tokenizer. Prints JSON.

The base is the one the adapter names, or --base. Runs on the CPU.
"""

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="folder with adapter_config.json")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--base", help="folder or id of the base, if it lies elsewhere than the adapter says")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16", help="of the result")
    args = parser.parse_args()
    config = args.adapter / "adapter_config.json"
    if not config.is_file():
        print(
            f"{args.adapter} has no adapter_config.json: nothing to merge. Convert the model as it is.", file=sys.stderr
        )
        return 2
    if args.out.exists() and any(args.out.iterdir()):
        print(f"{args.out} is not empty. Name a new folder.", file=sys.stderr)
        return 2

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = args.base or json.loads(config.read_text("utf-8"))["base_model_name_or_path"]
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    except OSError as error:
        print(f"The base {base} cannot be loaded: {str(error).splitlines()[0]} Give --base.", file=sys.stderr)
        return 2
    before = {name: weight.clone() for name, weight in model.state_dict().items() if name.endswith("proj.weight")}
    merged = PeftModel.from_pretrained(model, str(args.adapter)).merge_and_unload(safe_merge=True)
    after = merged.state_dict()
    change = max(
        (float((after[name] - weight).abs().max()) for name, weight in before.items() if name in after), default=0.0
    )
    merged.to(getattr(torch, args.dtype)).save_pretrained(args.out)
    source = args.adapter if (args.adapter / "tokenizer.json").is_file() else base
    AutoTokenizer.from_pretrained(source).save_pretrained(args.out)
    told = {
        "base": str(base),
        "adapter": str(args.adapter),
        "out": str(args.out),
        "dtype": args.dtype,
        "largest_change": change,
    }
    print(json.dumps(told))
    if change == 0:
        print("No weight changed: the adapter does nothing. Was it trained and saved?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
