"""How fast a training would go: a range from arithmetic, the device's peak, and how much of it is usually reached.

CPU rates are measured; GPU rates are data sheets times a wide range of utilisation. A trial of a few steps beats this.
"""

from dataclasses import dataclass

from tools.hardware.memory import GENERATING, PAIRED, REFERENCED, Work
from tools.hardware.models import Model
from tools.hardware.offers import Offer

# dense 16-bit TFLOP/s with tensor cores, and memory bandwidth in GB/s, from data sheets; matched in this order
CARDS = {
    "RTX PRO 6000": (500, 1792),
    "H200": (989, 4800),
    "H100": (989, 3350),
    "B200": (2250, 8000),
    "GH200": (989, 4000),
    "A100": (312, 1935),
    "L40S": (362, 864),
    "L4": (121, 300),
    "A10G": (70, 600),
    "A10": (125, 600),
    "V100": (125, 900),
    "T4": (65, 320),
    "5090": (209, 1792),
    "4090": (165, 1008),
    "3090": (71, 936),
}
UNKNOWN_CARD = (60, 400)
WITHOUT_BF16 = ("T4", "V100")
GPU_SHARE = (0.15, 0.40)  # of the peak, for models above a billion parameters
SMALL_SHARE = (0.06, 0.25)  # small matrices leave a GPU waiting
CPU_CORE = 48e9  # FLOP/s per core in fp32, measured with a 0.6B model on two cores
CPU_SHARE = (0.5, 1.3)
QLORA_SHARE = (0.55, 0.8)  # weights are unpacked again for every product
FSDP_SHARE = (0.6, 0.9)
STEP_SECONDS = {"cpu": (0.05, 0.12), "cuda": (0.05, 0.3)}  # what a step costs however small it is
DECODE_SHARE = (0.25, 0.6)  # of the bandwidth, while generating
DECODE_LAYER_SECONDS = (0.4e-3, 1.2e-3)  # per layer and token, when launching kernels is what takes time
START_MINUTES = {"local": (0.3, 1.0), "hf-jobs": (3.0, 8.0)}
DOWNLOAD_GB_PER_MINUTE = (30.0, 6.0)


@dataclass(frozen=True)
class Range:
    low: float
    high: float

    def times(self, value: float) -> "Range":
        return Range(self.low * value, self.high * value)


def tokens_per_second(model: Model, work: Work, offer: Offer) -> Range:
    """Trained tokens (prompt and answer, padding left out) per second over all devices; generation included."""
    low, high = rate(model, work, offer)
    row = work.length * (2 if work.method in PAIRED else 1)
    step_rows = work.batch * work.accumulation * max(1, offer.gpus)
    flops = row_flops(model, work) * step_rows
    fixed = STEP_SECONDS[offer.device]
    slow, fast = flops / low + fixed[1], flops / high + fixed[0]
    if work.method in GENERATING:
        generating = decode_seconds(model, work, offer)
        slow, fast = slow + generating.high, fast + generating.low
    return Range(row * step_rows / slow, row * step_rows / fast)


def row_flops(model: Model, work: Work) -> float:
    """Two per parameter forward; as much for the gradient of activations, and again for that of weights."""
    passes = 3 if work.adapter == "none" else 2
    passes += 1 if work.checkpointing else 0
    passes += 1 if work.method in REFERENCED or work.method in GENERATING else 0
    passes += 1 if work.method == "kto" else 0  # mismatched pairs measure the drift
    tokens = work.length * (2 if work.method in PAIRED else 1)
    per_token = 2 * model.active + 2 * model.layers * model.query * work.length  # causal: half of all pairs
    return tokens * per_token * passes


def rate(model: Model, work: Work, offer: Offer) -> tuple[float, float]:
    if not offer.gpus:
        return offer.cpus * CPU_CORE * CPU_SHARE[0], offer.cpus * CPU_CORE * CPU_SHARE[1]
    share = GPU_SHARE if model.active >= 1e9 else SMALL_SHARE
    low, high = (card(offer)[0] * 1e12 * offer.gpus * one for one in share)
    if work.adapter == "qlora":
        low, high = low * QLORA_SHARE[0], high * QLORA_SHARE[1]
    if work.gpus > 1:
        low, high = low * FSDP_SHARE[0], high * FSDP_SHARE[1]
    return low, high


def decode_seconds(model: Model, work: Work, offer: Offer) -> Range:
    """One step's generation by transformers itself; vLLM would be several times faster."""
    if not offer.gpus:
        flops = 2 * model.active * work.completion * work.batch * work.accumulation
        return Range(flops / (offer.cpus * CPU_CORE), flops / (offer.cpus * CPU_CORE * 0.2))
    stored = model.parameters * 2
    bandwidth = card(offer)[1] * 1e9
    each = [
        max(stored / (bandwidth * share), model.layers * launch)
        for share, launch in zip(reversed(DECODE_SHARE), DECODE_LAYER_SECONDS, strict=True)
    ]
    return Range(work.completion * each[0], work.completion * each[1])


def start_minutes(model: Model, offer: Offer) -> Range:
    """Until the first step: machine, packages, weights."""
    low, high = START_MINUTES[offer.where]
    gigabytes = model.parameters * 2 / 1e9 if offer.where != "local" else 0
    fast, slow = DOWNLOAD_GB_PER_MINUTE
    return Range(low + gigabytes / fast, high + gigabytes / slow)


def card(offer: Offer) -> tuple[float, float]:
    name = (offer.gpu or "").upper()
    return next((known for part, known in CARDS.items() if part in name), UNKNOWN_CARD)


def has_bf16(offer: Offer) -> bool:
    return not any(part in (offer.gpu or "").upper() for part in WITHOUT_BF16)
