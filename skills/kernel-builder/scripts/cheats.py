"""What a kernel's sources give away: a library that does the work, threads, clocks, files, the judge's names.

Text and syntax only: it shows intent, it proves nothing about numbers. The rest is caught where it acts: results are
read as bytes from frozen processes, inputs are new each time, the clock is not the kernel's.
"""

import ast
import re
from pathlib import Path

from emulate import without_comments
from project import Project

WORK, THREADS, STREAMS, CLOCK, REACH, KEEP, JUDGE = (
    "has a library do the work",
    "starts threads or processes of its own",
    "uses streams or events of its own",
    "reads a clock",
    "reaches for files, the environment or other libraries",
    "keeps something between calls",
    "names the judge",
)
LOOKED_FOR = [WORK, THREADS, STREAMS, CLOCK, REACH, KEEP, JUDGE]
IN_C = [
    (WORK, r"\bat::(?!parallel_for)|\btorch::(?!stable|headeronly)\w+::|\baoti_torch_(?!get_current_cuda_stream)\w+"),
    (WORK, r"\b(?:cublas|cudnn|cufft|cusparse|curand|cusolver|nvrtc|cblas|dnnl|miopen|rocblas|hipblas)\w*\s*[(<:.]"),
    (WORK, r"\b(?:mkl|onednn)\w*[(.]|torch_call_dispatcher"),
    (THREADS, r"\bstd::(?:thread|jthread|async|promise|packaged_task)\b|\bpthread_create\b"),
    (THREADS, r"\b(?:fork|vfork|clone|posix_spawn)\s*\("),
    (STREAMS, r"cudaStreamCreate|cudaStreamPerThread|cudaLaunchHostFunc|hipStreamCreate|cudaEvent(?:Record|Elapsed)"),
    (CLOCK, r"\bstd::chrono\b|\bclock_gettime\b|\bgettimeofday\b|\bclock\s*\(\)|\bclock64\b|\brdtsc\b"),
    (REACH, r"\bfopen\b|\bstd::[io]?fstream\b|\bgetenv\b|\bdlopen\b|\bdlsym\b|\bsystem\s*\(|\bpopen\b|\bmmap\b|/proc/"),
    (KEEP, r"\bstd::(?:unordered_)?map\b|\bthread_local\b"),
]
IMPORTS = dict.fromkeys(["threading", "multiprocessing", "subprocess", "concurrent", "asyncio"], THREADS)
IMPORTS |= dict.fromkeys(["time", "timeit", "datetime"], CLOCK)
IMPORTS |= dict.fromkeys(["ctypes", "os", "sys", "gc", "inspect", "pathlib", "importlib", "mmap", "builtins"], REACH)
IMPORTS |= dict.fromkeys(["worker", "judge", "candidate", "numerics", "arena", "trial", "timing"], JUDGE)
INNER = ("torch.utils", "torch.multiprocessing", "torch._dynamo", "torch._inductor", "torch.cuda")
DOES_THE_WORK = {
    "rms_norm", "layer_norm", "softmax", "log_softmax", "cross_entropy", "silu", "gelu", "relu", "matmul", "mm",
    "bmm", "addmm", "linear", "einsum", "rsqrt", "sqrt", "exp", "scaled_dot_product_attention", "log", "mean",
    "sum", "pow", "sigmoid", "tanh", "logsumexp", "compile", "dot", "mv", "var", "norm", "baddbmm", "conv1d",
    "conv2d", "embedding", "nll_loss", "normalize", "glu", "erf", "amax", "cumsum", "sort", "topk", "mul", "div",
}  # fmt: skip
IN_TRITON = ("tl", "triton", "ops", "libdevice", "math")


def found(project: Project) -> list[str]:
    """One line for each thing, with file and line."""
    folder = project.folder
    said = []
    for kind in ("cuda", "cpu", "hip"):
        for path in sorted((folder / f"{project.op}_{kind}").glob("*")):
            said += [
                f"{path.relative_to(folder)}:{line}: {what}"
                for line, what in in_c(path.read_text(encoding="utf-8", errors="replace"))
            ]
    for home in (folder / "torch-ext", folder / "triton" / "torch-ext"):
        for path in sorted(home.rglob("*.py")):
            said += [f"{path.relative_to(folder)}:{line}: {what}" for line, what in in_python(path)]
    return said


def in_c(text: str) -> list[tuple[int, str]]:
    bare = without_comments(text)
    hits = [
        (bare.count("\n", 0, match.start()) + 1, what) for what, pattern in IN_C for match in re.finditer(pattern, bare)
    ]
    return sorted(set(hits))


def in_python(path: Path) -> list[tuple[int, str]]:
    """Imports, classes made from Tensor, torch functions that do the work, attributes of torch that are replaced."""
    hits = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        for name in names:
            if what := IMPORTS.get(name.split(".")[0]):
                hits.append((node.lineno, f"imports {name}: {what}"))
            elif name.startswith(INNER):
                hits.append((node.lineno, f"imports {name}"))
        if isinstance(node, ast.ClassDef) and any("Tensor" in ast.unparse(base) for base in node.bases):
            hits.append((node.lineno, "makes a tensor class of its own"))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DOES_THE_WORK:
            owner = ast.unparse(node.func.value)
            if owner not in ("tl", "triton.language", "ops", "libdevice", "tl.math", "math") and not owner.startswith(
                "tl."
            ):
                hits.append((node.lineno, f"calls {owner}.{node.func.attr} for the work"))
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target.value).split(".")[0] in (
                    "torch",
                    "time",
                    "triton",
                    "builtins",
                ):
                    hits.append((node.lineno, f"replaces {ast.unparse(target)}"))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "setattr",
            "exec",
            "eval",
            "__import__",
            "globals",
        ):
            hits.append((node.lineno, f"calls {ast.unparse(node.func)}"))
    return sorted(set(hits))
