"""Times of single calls on a device by its own events, with its cache flushed before each, through the CUDA runtime.

Only a claim: it is taken in the kernel's process. The judge holds it against its own clock before it believes it.
`library` may name another library with the same functions, which is how this is tested without a GPU.
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

FLUSH = 256 << 20  # larger than any L2


class DeviceClock:
    def __init__(self, library: str | None, stream: Callable[[], int]) -> None:
        self.runtime = ctypes.CDLL(library or loaded())
        self.stream = stream
        self.memory = ctypes.c_void_p()
        self.flush = FLUSH if library is None else 1 << 20
        self.do("cudaMalloc", ctypes.byref(self.memory), ctypes.c_size_t(self.flush))

    def do(self, name: str, *arguments) -> None:
        code = getattr(self.runtime, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with error {code}")

    def event(self) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self.do("cudaEventCreate", ctypes.byref(made))
        return made

    def each(self, call: Callable, sets: list[tuple]) -> list[float]:
        """Microseconds of each call on the current stream; returns when the whole device is at rest."""
        events = [(self.event(), self.event()) for _ in sets]
        stream = ctypes.c_void_p(self.stream())
        for (begin, end), arguments in zip(events, sets, strict=True):
            self.do("cudaMemsetAsync", self.memory, 0, ctypes.c_size_t(self.flush), stream)
            self.do("cudaEventRecord", begin, stream)
            call(*arguments)
            self.do("cudaEventRecord", end, stream)
        self.do("cudaDeviceSynchronize")
        times = []
        for begin, end in events:
            took = ctypes.c_float()
            self.do("cudaEventElapsedTime", ctypes.byref(took), begin, end)
            times.append(took.value * 1000)
            self.do("cudaEventDestroy", begin)
            self.do("cudaEventDestroy", end)
        return times


def loaded() -> str:
    """The CUDA runtime that torch brought into this process."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    found = re.search(r"\S*/libcudart\S*\.so\S*", maps)
    return found[0] if found else "libcudart.so"
