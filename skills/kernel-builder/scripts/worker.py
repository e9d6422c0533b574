"""The process that holds the kernel under test: it is told where tensors lie, calls the kernel, and says "done".

It judges nothing, times nothing, and knows no expected value, seed or tolerance. Before it loads the kernel it
gives up writing anywhere but its scratch folder. `python -I worker.py REQUESTS REPLIES ARENA '{"kind": …}'`.
Kinds: library (a C function over plain memory, no torch), package (a built variant), triton (the sibling in Triton).
"""

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
        self.known: dict[str, list] = {}

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

    # for timing: the judge times from outside how long `loop` takes to answer

    def prepare(self, request: dict) -> None:
        """Tensors of many calls, made once; also compiles the baselines' functions when asked."""
        sets = [[self.there(self.window(told)) for told in one] for one in request["sets"]]
        self.known[request["name"]] = [(*tensors, *request["scalars"]) for tensors in sets]

    def loop(self, request: dict) -> None:
        """Call once on each set."""
        call, sets = self.raw, self.known[request["name"]]
        for arguments in sets:
            call(*arguments)

    def forget(self, request: dict) -> None:
        self.known.clear()


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


KINDS = {"library": Library, "package": Package, "triton": Triton}


def main() -> None:
    requests, replies, arena, told = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    memory = mmap.mmap(arena, 0)
    answers = os.fdopen(replies, "w", buffering=1)
    missing = confine(["/dev", *told["writable"]])
    try:
        kernel = KINDS[told["kind"]](told, memory)
    except Exception as error:
        print(json.dumps({"ready": False, "error": f"{type(error).__name__}: {error}"}), file=answers)
        traceback.print_exc()
        return
    print(json.dumps({"ready": True, "unconfined": missing}), file=answers)
    for line in os.fdopen(requests, "r"):
        request = json.loads(line)
        try:
            getattr(kernel, request["do"])(request)
            answer = {"ok": True}
        except Refused as said:
            answer = {"ok": False, "refused": str(said)}
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            answer = {"ok": False, "refused": f"{type(error).__name__}: {first}"[:500]}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
