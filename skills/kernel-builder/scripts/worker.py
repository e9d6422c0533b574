# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "triton==3.7.1"]
# ///
"""The process that holds the kernel under test: it is told where tensors lie, calls the kernel, and says "done".

It judges nothing, times nothing, and knows no expected value, seed or tolerance. Before it loads the kernel it
gives up writing anywhere but its scratch folder. `python -I worker.py REQUESTS REPLIES ARENA '{"kind": …}'`.
Kinds: library (a C function over plain memory, no torch), package (a built variant), triton, baseline, hub.
"""

import argparse
import ctypes
import json
import mmap
import os
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from confine import confine

SIZES = [4, 2, 2, 8, 4, 8, 1, 1]  # bytes of an element, by the number of its dtype


class Refused(Exception):
    """The kernel said no, in words."""


class View(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("size", ctypes.POINTER(ctypes.c_int64)),
        ("stride", ctypes.POINTER(ctypes.c_int64)),
    )


class Scalar(ctypes.Union):
    _fields_ = (("real", ctypes.c_double), ("whole", ctypes.c_int64))


class Library:
    """The emulated kernel, or rows.h, by its one C function."""

    def __init__(self, told: dict, memory: mmap.mmap) -> None:
        self.run = ctypes.CDLL(told["path"]).run
        self.run.restype = ctypes.c_char_p
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def call(self, request: dict) -> None:
        tensors, scalars = request["tensors"], request["scalars"]
        views = (View * len(tensors))()
        for view, told in zip(views, tensors, strict=True):
            count = len(told["shape"])
            numbers = ctypes.c_int64 * max(count, 1)
            view.data, view.dtype, view.ndim = self.base + told["offset"], told["dtype"], count
            view.size, view.stride = numbers(*told["shape"]), numbers(*told["stride"])
        values = (Scalar * max(len(scalars), 1))()
        for value, scalar in zip(values, scalars, strict=False):
            if isinstance(scalar, float):
                value.real = scalar
            else:
                value.whole = int(scalar)
        elements = (ctypes.c_int64 * len(tensors))(*(SIZES[told["dtype"]] for told in tensors))
        said = self.run(views, elements, values)
        if said:
            raise Refused(said.decode(errors="replace"))


class Torch:
    """What the kinds with torch share: tensors over the arena, on the device, and back."""

    def __init__(self, told: dict, memory: mmap.mmap) -> None:
        import torch

        self.torch, self.memory, self.device = torch, memory, told.get("device", "cpu")
        if "threads" in told:
            torch.set_num_threads(told["threads"])
        self.types = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.float64]
        self.types += [torch.int8, torch.uint8]
        self.clock = None
        if told.get("cudart") or self.device != "cpu":
            from device_clock import DeviceClock

            self.clock = DeviceClock(told.get("cudart"), lambda: 0 if self.device == "cpu" else stream(torch))

    def window(self, told: dict):
        shape, stride, dtype = told["shape"], told["stride"], self.types[told["dtype"]]
        if 0 in shape:
            return self.torch.empty(shape, dtype=dtype)
        extent = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        flat = self.torch.frombuffer(self.memory, dtype=dtype, count=extent, offset=told["offset"])
        return flat.as_strided(shape, stride)

    def there(self, window):
        """On the device, with the same strides and the same offset to 16 bytes."""
        if self.device == "cpu":
            return window
        extent = 1 + sum((size - 1) * step for size, step in zip(window.shape, window.stride(), strict=True))
        shift = window.data_ptr() % 16 // window.element_size()
        room = self.torch.empty(max(extent, 0) + shift, dtype=window.dtype, device=self.device)
        there = room[shift:].as_strided(window.shape, window.stride())
        return there.copy_(window)

    def call(self, request: dict) -> None:
        windows = [self.window(told) for told in request["tensors"]]
        tensors = [self.there(window) for window in windows]
        self.raw(*tensors, *request["scalars"])
        if self.device != "cpu":
            for window, tensor in zip(windows, tensors, strict=True):
                window.copy_(tensor)

    def function(self, request: dict) -> None:
        """The public function: what it returns is copied as plain bytes into the places given."""
        inputs = [self.there(self.window(told)) for told in request["inputs"]]
        got = self.public(*inputs, *request["scalars"])
        got = got if isinstance(got, tuple | list) else [got]
        if any(type(one) is not self.torch.Tensor for one in got):
            raise TypeError(f"the function returned {[type(one).__name__ for one in got]}, not plain tensors")
        for one, told in zip(got, request["outputs"], strict=True):
            window = self.window(told)
            if one.shape != window.shape or one.dtype != window.dtype:
                raise TypeError(f"the function returned {tuple(one.shape)} {one.dtype}")
            window.copy_(one)

    def opcheck(self, request: dict) -> None:
        tensors = [self.there(self.window(told)) for told in request["tensors"]]
        self.torch.library.opcheck(self.raw.default, (*tensors, *request["scalars"]))

    def fullgraph(self, request: dict) -> None:
        """One graph without a break; the result goes where `function` puts it."""
        plain = self.public
        self.public = self.torch.compile(lambda *arguments: plain(*arguments), fullgraph=True, backend="aot_eager")
        try:
            self.function(request)
        finally:
            self.public = plain

    # for timing: the judge times from outside how long a loop takes to answer

    def nothing(self, request: dict) -> None:
        """What an answer costs by itself."""

    def prepare(self, request: dict) -> None:
        """The arguments of many calls: raw ones with their outputs first, and those of functions without."""
        split = request["outputs"]
        sets = [[self.there(self.window(told)) for told in one] for one in request["sets"]]
        self.raw_sets = [(*one, *request["scalars"]) for one in sets]
        self.sets = [arguments[split:] for arguments in self.raw_sets]

    def loop(self, request: dict) -> dict | None:
        """Call once on each set from `begin` to `end`; results of functions are dropped."""
        which = request["which"]
        call = self.raw if which == "raw" else self.functions()[which]
        sets = (self.raw_sets if which == "raw" else self.sets)[request["begin"] : request["end"]]
        if self.clock is not None:
            return {"us": self.clock.each(call, sets)}
        for arguments in sets:
            call(*arguments)
        return None

    def hollow(self, request: dict) -> dict | None:
        """The loop without its calls: what flushing and events cost."""
        return {"us": self.clock.each(lambda *_: None, self.raw_sets[request["begin"] : request["end"]])}

    def fetch(self, request: dict) -> None:
        """Outputs of the timed calls back into the shared memory, for a device that has its own."""
        if self.device == "cpu":
            return
        for told, arguments in zip(request["sets"], self.raw_sets, strict=True):
            for place, tensor in zip(told[: request["outputs"]], arguments, strict=False):
                self.window(place).copy_(tensor)

    def again(self, request: dict) -> None:
        """Inputs and poisoned outputs to the device once more, into the same memory."""
        if self.device == "cpu":
            return
        for told, arguments in zip(request["sets"], self.raw_sets, strict=True):
            for place, tensor in zip(told, arguments, strict=False):
                tensor.copy_(self.window(place))

    def functions(self) -> dict:
        return {"function": self.public}


class Package(Torch):
    def __init__(self, told: dict, memory: mmap.mmap) -> None:
        super().__init__(told, memory)
        from project import Project

        project = Project.open(told["project"])
        package = project.package(Path(told["variant"]))
        self.raw = getattr(package.ops, project.op)
        self.public = getattr(package, project.op)


class Triton(Torch):
    def __init__(self, told: dict, memory: mmap.mmap) -> None:
        super().__init__(told, memory)
        from project import load_module

        self.raw = load_module("kernel_under_test", Path(told["source"])).launch
        self.public = None


class Baseline(Torch):
    """What a kernel is measured against, in a process without it: torch's own ways, and moving the same bytes."""

    def __init__(self, told: dict, memory: mmap.mmap) -> None:
        super().__init__(told, memory)
        from project import load_module

        truth = load_module("oracle", Path(told["oracle"]))
        self.known = {"eager": truth.reference, "compiled": self.compile_and_call, "copy": self.move}
        if getattr(truth, "functional", None):
            self.known["functional"] = truth.functional
        self.reference, self.raw = truth.reference, None

    def prepare(self, request: dict) -> None:
        super().prepare(request)
        if "torch._dynamo" in sys.modules:
            self.torch._dynamo.reset()  # after 8 sizes it would go back to eager without a word
        self.compiled = None
        half = request["bytes"] // 2
        self.here, self.to = (self.torch.zeros(half, dtype=self.torch.uint8, device=self.device) for _ in range(2))

    def compile_and_call(self, *arguments):
        self.compiled = self.compiled or self.torch.compile(self.reference)
        return self.compiled(*arguments)

    def move(self, *_) -> None:
        self.to.copy_(self.here)

    def functions(self) -> dict:
        return self.known


class Hub(Torch):
    """A published kernel that lies here already; called by a function of the same arguments."""

    def __init__(self, told: dict, memory: mmap.mmap) -> None:
        super().__init__(told, memory)
        from kernels import get_kernel

        kernel = get_kernel(told["repo"], version=1, trust_remote_code=True)
        self.public, self.raw = getattr(kernel, told["function"]), None


def stream(torch) -> int:
    return torch.cuda.current_stream().cuda_stream


KINDS = {"library": Library, "package": Package, "triton": Triton, "baseline": Baseline, "hub": Hub}


def main() -> None:
    ctypes.CDLL(None).prctl(1, 9)  # killed with the judge, even while it stands still
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("requests", "replies", "arena"):
        parser.add_argument(name, type=int, help="an open file's number")
    parser.add_argument("told", type=json.loads, help="JSON: kind, writable, ...")
    given = parser.parse_args()
    requests, replies, arena, told = given.requests, given.replies, given.arena, given.told
    memory = mmap.mmap(arena, 0)
    answers = os.fdopen(replies, "w", buffering=1)
    missing = confine(["/dev", *told["writable"]])
    try:
        if told["kind"] == "model":
            from model_here import Model

            KINDS["model"] = Model
        kernel = KINDS[told["kind"]](told, memory)
    except Exception as error:
        print(json.dumps({"ready": False, "error": f"{type(error).__name__}: {error}"}), file=answers)
        traceback.print_exc()
        return
    print(json.dumps({"ready": True, "unconfined": missing}), file=answers)
    for line in os.fdopen(requests, "r"):
        request = json.loads(line)
        try:
            answer = {"ok": True, **(getattr(kernel, request["do"])(request) or {})}
        except Refused as said:
            answer = {"ok": False, "refused": str(said)}
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            answer = {"ok": False, "refused": f"{type(error).__name__}: {first}"[:500]}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
