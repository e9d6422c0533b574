"""Notices when the same steps come again and again with the same result."""

import hashlib
from typing import Literal

TIMES = 3
LONGEST = 4  # steps in one round


class Circles:
    """The first time a circle closes the model is told, the second time the turn stops."""

    times = TIMES

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.told = False

    def add(self, code: str, result: str) -> Literal["", "told", "stop"]:
        self.seen.append(hashlib.sha256(f"{code}\0{result}".encode()).hexdigest())
        if not any(self.closed(length) for length in range(1, LONGEST + 1)):
            return ""
        if self.told:
            return "stop"
        self.told, self.seen = True, []
        return "told"

    def closed(self, length: int) -> bool:
        last = self.seen[-length * TIMES :]
        return len(last) == length * TIMES and last == last[:length] * TIMES
