# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Does a model fit into memory? Weights, KV cache and a share for the rest, from its config.json. Prints JSON.

An estimate for attention over the whole context: models with linear or sliding-window layers need less.
"""

import argparse
import json
import sys
from pathlib import Path

GIB = 2**30
SHARE, LEAST = 0.10, 0.5  # of weights and cache, for everything else; in GiB at least


def cache_bytes_a_token(config: dict, cache_bits: float) -> float:
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return 2 * config["num_hidden_layers"] * heads * size * cache_bits / 8


def fits(config: dict, params: float, bits: float, context: int, cache_bits: float, gib: float) -> dict:
    config = {**config, **(config.get("text_config") or {})}
    weights = params * bits / 8
    each = cache_bytes_a_token(config, cache_bits)
    need = total(weights + each * context)
    room = (gib * GIB - max(LEAST * GIB, gib * GIB * SHARE / (1 + SHARE)) - weights) / each
    longest = config.get("max_position_embeddings")
    return {
        "fits": need <= gib * GIB,
        "need_gib": round(need / GIB, 2),
        "weights_gib": round(weights / GIB, 2),
        "cache_gib": round(each * context / GIB, 2),
        "context": context,
        "longest_context_that_fits": max(0, min(int(room), longest or int(room))),
        "trained_context": longest,
    }


def total(bytes_: float) -> float:
    return bytes_ + max(LEAST * GIB, bytes_ * SHARE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="the model's config.json")
    parser.add_argument("--params-billion", type=float, required=True, help="all parameters, also of idle experts")
    parser.add_argument("--bits", type=float, default=16, help="per weight (default: 16)")
    parser.add_argument("--cache-bits", type=float, default=16, help="per value of the KV cache (default: 16)")
    parser.add_argument("--context", type=int, default=32768, help="tokens (default: 32768)")
    parser.add_argument("--gib", type=float, required=True, help="memory there is")
    args = parser.parse_args()
    try:
        config = json.loads(args.config.read_text("utf-8"))
        told = fits(config, args.params_billion * 1e9, args.bits, args.context, args.cache_bits, args.gib)
    except (OSError, ValueError, KeyError) as error:
        print(f"{args.config} cannot be used: {error!r}. Give the config.json of a language model.", file=sys.stderr)
        return 2
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
