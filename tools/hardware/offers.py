"""The machines on offer: this one, and the flavors of Hugging Face Jobs with their prices.

Prices come live from the Hub when it can be asked with a token, else from the dated table beside this file; the note
says which. An unknown price is None, never 0.
"""

import logging
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.context import ToolError, here
from tools.hubs.client import ask, offline

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TABLE = Path(__file__).with_name("prices.toml")
MINUTES = {"minute": 60.0, "hour": 1.0, "second": 3600.0}  # how many of these make an hour
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    name: str
    where: str  # local | hf-jobs
    cpus: int
    ram_gb: float  # here: what is free now
    gpu: str | None = None
    gpus: int = 0
    vram_gb: float = 0.0  # of one GPU
    usd_per_hour: float | None = None

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    def told(self) -> str:
        if not self.gpus:
            return f"{self.cpus} CPU cores, {self.ram_gb:.0f} GB"
        return f"{self.gpus} x {self.gpu} {self.vram_gb:.0f} GB"


def all_offers() -> tuple[list[Offer], str]:
    jobs, note = jobs_offers()
    return [local_offer(), *jobs], note


def jobs_offers() -> tuple[list[Offer], str]:
    """Flavors, cheapest first, and where the prices come from."""
    if offline():
        return from_table("offline")
    if not here().hf_token:
        return from_table("nobody is signed in")

    def question(api: "HfApi") -> Any:
        return api.list_jobs_hardware()

    try:
        flavors, _ = ask(question)
        live = [from_live(one) for one in flavors]
    except (ToolError, KeyError, TypeError, ValueError) as problem:
        log.warning("the live list of Jobs hardware was not usable: %s", problem)
        return from_table(f"the live list could not be read: {str(problem).rstrip('.')}")
    return by_price(live), "Prices: live from Hugging Face."


def from_live(one: Any) -> Offer:
    cost, hours = one.unit_cost_usd, MINUTES.get(one.unit_label)
    price = cost * hours if cost is not None and hours else None
    card = one.accelerator
    if card is None:
        return Offer(one.name, "hf-jobs", int(number(one.cpu)), number(one.ram), usd_per_hour=price)
    count = int(number(card.quantity))
    each = number(card.vram) / count  # the list tells the memory of all cards together
    return Offer(one.name, "hf-jobs", int(number(one.cpu)), number(one.ram), card.model, count, each, price)


def from_table(why: str) -> tuple[list[Offer], str]:
    table = tomllib.loads(TABLE.read_text())
    offers = []
    for name, one in table["flavors"].items():
        count = one.get("gpus", 0)
        each = one["vram_gb"] / count if count else 0.0
        known = (one["cpus"], one["ram_gb"], one.get("gpu"), count, each, one["usd_per_hour"])
        offers.append(Offer(name, "hf-jobs", *known))
    return by_price(offers), f"Prices: from a table of {table['date']}, which may be out of date ({why})."


def by_price(offers: list[Offer]) -> list[Offer]:
    return sorted(offers, key=lambda one: (one.usd_per_hour is None, one.usd_per_hour or 0, one.name))


def local_offer() -> Offer:
    """This machine as it is now: the cores and memory this process may use, and the cards nvidia-smi tells."""
    cards = local_gpus()
    memory = [gb for _, gb in cards]
    name = cards[0][0] if cards else None
    cores = len(os.sched_getaffinity(0))
    return Offer("local", "local", cores, free_gb(), name, len(cards), min(memory, default=0.0), 0.0)


def local_gpus() -> list[tuple[str, float]]:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    cards = []
    for line in told.stdout.splitlines() if told.returncode == 0 else []:
        name, _, mib = line.rpartition(",")
        if mib.strip().isdigit():
            cards.append((re.sub(r"^(NVIDIA|Tesla)\s+", "", name.strip()), int(mib) / 1024))
    return cards


def free_gb(proc: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> float:
    """What a new process could take: free memory, or what is left below the container's limit if that is less."""
    found = re.search(r"MemAvailable:\s+(\d+)", proc.read_text()) if proc.is_file() else None
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = int(found[1]) * 1024 if found else pages
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free = min(free, max(0, int(most) - int(used.read_text())))
    return free / 2**30


def number(text: Any) -> float:
    """The number in "46 GB" or "12 vCPU"; TB in GB."""
    found = re.search(r"\d+(?:\.\d+)?", str(text))
    if not found:
        raise ValueError(f"no number in {text!r}")
    return float(found[0]) * (1024 if "TB" in str(text) else 1)
