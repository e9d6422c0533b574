"""The CPU build: every source with g++, linked against torch's stable ABI, laid out as a variant.

Shows that vector instructions are in each file that is meant to have them. Nothing is loaded here.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import variant
from evidence import Record
from libraries import outside_stable_abi
from project import Project
from tools_here import ABI, ABI_NAME, Outcome, cxx, platform_name, python_include, run, torch_home, torch_includes

REGISTERS = {"avx2": "%ymm", "avx512": "%zmm"}
LABEL = "compiled-only"


def flags(project: Project, backend: str) -> list[str]:
    """What every file of a build is compiled with."""
    include = project.work("compile") / backend
    include.mkdir(parents=True, exist_ok=True)
    (include / "registration.h").write_text(variant.REGISTRATION, encoding="utf-8")
    name = variant.namespace(project, backend)
    return [
        "-std=c++20", "-O3", f"-D{backend.upper()}_KERNEL", f"-DTORCH_EXTENSION_NAME={name}",
        f"-DTORCH_TARGET_VERSION={ABI}", "-DPy_LIMITED_API=0x03090000", "-I", str(include),
        "-I", str(project.folder / "torch-ext"), "-isystem", str(python_include()), *torch_includes(),
    ]  # fmt: skip


def build(project: Project, record: Record) -> None:
    sources = project.cpu_sources()
    if not sources:
        record.part("cpu", "not_run", reason="the project has no rows.h")
        return
    lacking = [what for what, there in (("g++", cxx()), ("Python.h (python3-dev)", python_include())) if not there]
    if lacking:
        record.part("cpu", "not_run", reason=f"{' and '.join(lacking)} is missing here")
        return
    outcomes = compiled(project, [*sources, project.folder / "torch-ext" / "torch_binding.cpp"])
    if failed := [one for one in outcomes if one.code]:
        record.part("cpu", "fail", LABEL, failed[0].first_error, command=failed[0].command[:300])
        record.find("error", failed[0].text[-3000:])
        return
    library = project.work("compile") / "cpu" / f"{variant.namespace(project, 'cpu')}.abi3.so"
    objects = sorted(library.parent.glob("*.o"))
    done = run(
        cxx() or "g++",
        "-shared",
        "-o",
        library,
        *objects,
        "-L",
        torch_home() / "lib",
        "-ltorch",
        "-ltorch_cpu",
        "-lc10",
    )
    if done.code:
        record.part("cpu", "fail", LABEL, f"link: {done.first_error}")
        return
    unstable = outside_stable_abi(library)
    if unstable:
        record.part("cpu", "fail", LABEL, f"needs what is not in the stable ABI: {', '.join(unstable[:3])}")
        return
    name = f"{ABI_NAME}-cpu-{platform_name()}"
    variant.write(project, name, "cpu", library)
    record.part("cpu", "pass", LABEL, variant=name, kilobytes=library.stat().st_size // 1024, **vectors(objects))
    other_machines(project, record)


def compiled(project: Project, sources: list[Path]) -> list[Outcome]:
    """All files, two at a time; objects of an earlier build are gone first."""
    folder = project.work("compile") / "cpu"
    shutil.rmtree(folder, ignore_errors=True)
    common = [*flags(project, "cpu"), "-fPIC", "-fvisibility=hidden", "-I", str(project.folder / f"{project.op}_cpu")]
    with ThreadPoolExecutor(2) as pool:
        return list(
            pool.map(lambda one: run(cxx() or "g++", *common, "-c", one, "-o", folder / f"{one.stem}.o"), sources)
        )


def vectors(objects: list[Path]) -> dict[str, int]:
    """How often each instruction set's registers occur in the file that is made for it."""
    if shutil.which("objdump") is None:
        return {}
    found = {}
    for path in objects:
        isa = path.stem.rpartition("_")[2]
        if register := REGISTERS.get(isa):
            found[f"{isa}_instructions"] = run("objdump", "-d", "--no-show-raw-insn", path).text.count(register)
    return {name: count for name, count in found.items() if count}


def other_machines(project: Project, record: Record) -> None:
    """The NEON file, where this machine is not ARM itself but has a compiler for it."""
    path = project.folder / f"{project.op}_cpu" / f"{project.op}_neon.cpp"
    if "aarch64" in platform_name() or not path.exists():
        return
    program = shutil.which("aarch64-linux-gnu-g++")
    if program is None:
        record.part("cpu neon", "not_run", reason="no ARM machine and no compiler for one here")
        return
    target = project.work("compile") / "neon.o"
    done = run(program, "-std=c++20", "-O3", "-fPIC", "-c", path, "-o", target)
    record.part("cpu neon", "fail" if done.code else "pass", LABEL, done.first_error if done.code else "")
