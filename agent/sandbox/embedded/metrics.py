"""What a sandbox uses, sampled while it runs: the numbers behind the SDK's `get_metrics`."""

import asyncio
import math
import os
import time
from collections import deque
from typing import Any

from .jail import Jail

PERIOD = 5.0
KEPT = 720  # an hour


class Metrics:
    """A ring of samples. Reading them takes one more, so that a young sandbox has a first one."""

    def __init__(self, jail: Jail):
        self.jail = jail
        self.ring: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.before = (time.monotonic(), jail.cage.cpu_seconds() or 0.0)
        self.timer = asyncio.get_running_loop().call_later(PERIOD, self.tick)

    def tick(self) -> None:
        self.take()
        self.timer = asyncio.get_running_loop().call_later(PERIOD, self.tick)

    def stop(self) -> None:
        self.timer.cancel()

    def take(self) -> None:
        limits = self.jail.plan.limits
        now, cpu = time.monotonic(), self.jail.cage.cpu_seconds() or 0.0
        passed = max(now - self.before[0], 1e-3)
        used = 100 * max(0.0, cpu - self.before[1]) / passed
        self.before = (now, cpu)
        disk = self.jail.disk_used()
        self.ring.append(
            {
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "timestampUnix": int(time.time()),
                "cpuCount": max(1, math.ceil(limits.cpus or os.cpu_count() or 1)),
                "cpuUsedPct": round(used, 1),
                "memUsed": self.jail.cage.memory() or 0,
                "memTotal": limits.memory_mb * 1024 * 1024,
                "memCache": 0,
                "diskUsed": disk,
                "diskTotal": limits.disk_mb * 1024 * 1024,
            }
        )

    def samples(self, start: float, end: float) -> list[dict[str, Any]]:
        self.take()
        return [sample for sample in self.ring if start <= sample["timestampUnix"] <= end]
