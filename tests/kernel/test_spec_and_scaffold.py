"""From a request to numbers and a whole project: what is counted, what is refused, what stays as a person left it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import SCRIPTS, parts, run_state, script

ORACLE = (SCRIPTS.parent / "patterns" / "rms_norm" / "oracle.py").read_text()


def test_a_spec_counts_what_a_model_holds_and_how_large_it_is(scaffolded: Path) -> None:
    spec = json.loads((scaffolded / "kernel.json").read_text())
    assert spec["model"]["expected"] == 3 * 4 + 1  # two norms of the layer, of queries, of keys; and the last one
    prefill = {
        (one["size"]["D"], one["size"]["rows"]): one["count"] for one in spec["sizes"] if one["phase"] == "prefill"
    }
    assert prefill == {(64, 4096): 7, (16, 4 * 4096): 3, (16, 2 * 4096): 3}
    assert all(one["size"]["eps"] == 1e-5 for one in spec["sizes"])


def test_the_bound_is_the_bytes_over_the_bandwidth(scaffolded: Path) -> None:
    largest = json.loads((scaffolded / "kernel.json").read_text())["sizes"][0]
    moved = (2 * 4096 * 64 + 64) * 2
    assert largest["cost"]["bytes"] == moved
    assert largest["bound_us"] == pytest.approx(moved / 3.35e12 * 1e6, abs=1e-3)


@pytest.mark.slow
def test_a_model_out_of_reach_is_read_from_the_dated_table_and_says_so(tmp_path: Path) -> None:
    done = run_state("spec", tmp_path / "p", "--pattern", "rms_norm", "--target", "H100", "--model", "Qwen3-0.6B",
                     HF_HOME=str(tmp_path / "hf"))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "p" / "kernel.json").read_text())["model"]
    assert told["id"] == "Qwen/Qwen3-0.6B" and "table, state of 20" in told["source"] and told["expected"] == 28 * 4 + 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pattern", "attention", "--target", "H100"], "no pattern"),
        (["--target", "H100"], "has no oracle.py"),
        (["--pattern", "rms_norm", "--target", "Z80"], "no target that is known"),
        (["--pattern", "rms_norm", "--target", "H100", "--name", "Bad_Name"], "no name for a kernel"),
    ],
)
def test_what_cannot_be_specified_is_one_line(options: list[str], said: str, tmp_path: Path) -> None:
    done = run_state("spec", tmp_path, *options)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("import math", "import math\nimport os"), "imports os"),
        (lambda text: text + "\nprint('here')\n", "only imports, constants and functions"),
        (lambda text: text.replace("def cost(", "def price("), "lacks cost"),
        (lambda text: text.replace("def reference(x, weight, eps)", "def reference(x, eps, weight)"), "must take"),
        (lambda text: text.replace("Tensor! out, Tensor x", "Tensor x, Tensor! out"), "in this order"),
    ],
)
def test_an_oracle_of_ones_own_is_read_with_suspicion(change, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    spec, evidence = script("spec"), script("evidence")
    (tmp_path / "oracle.py").write_text(change(ORACLE))
    with pytest.raises((script("project").Mistake, ValueError), match=said):
        truth = spec.truth_of(tmp_path / "oracle.py")
        script("schema").parse(truth.SCHEMA)
    assert evidence.STATES[0] == "spec"


def test_the_upstream_parser_accepts_the_project_and_all_is_committed(scaffolded: Path) -> None:
    found = parts(scaffolded, "scaffold")
    assert {name for name, one in found.items() if one["status"] == "pass"} == {
        "layout", "build.toml", "triton/build.toml", "rules", "committed",
    }  # fmt: skip
    said = subprocess.run(["git", "status", "--porcelain"], cwd=scaffolded, capture_output=True, text=True, check=True)
    assert said.stdout == ""


def test_a_source_that_build_toml_names_and_nobody_wrote_is_found(project: Path) -> None:
    toml = project / "build.toml"
    toml.write_text(toml.read_text().replace("rms_norm_avx2.cpp", "rms_norm_avx3.cpp"))
    done = run_state("scaffold", project)
    assert done.returncode == 1 and "rms_norm_avx3.cpp, which is not there" in done.stdout
    assert "changed by hand and kept: build.toml" in done.stdout


def test_what_a_person_changed_stays_and_their_sources_come_first(project: Path) -> None:
    layers = project / "torch-ext" / "small_rms_norm" / "layers.py"
    layers.write_text(layers.read_text() + "# mine\n")
    (project / "sources").mkdir()
    pattern = (SCRIPTS.parent / "patterns" / "rms_norm" / "kernel.cuh").read_text()
    (project / "sources" / "kernel.cuh").write_text(pattern + "// also mine\n")
    assert run_state("scaffold", project).returncode == 0
    assert layers.read_text().endswith("# mine\n")
    assert (project / "rms_norm_cuda" / "rms_norm_kernel.cuh").read_text().endswith("// also mine\n")


def test_the_oracle_of_a_pattern_cannot_be_replaced_by_the_project(project: Path) -> None:
    (project / "sources").mkdir()
    (project / "sources" / "oracle.py").write_text(ORACLE.replace("return weight *", "return 2 * weight *"))
    found = script("project").Project.open(project)
    assert (
        found.sources()["oracle.py"].parent.name == "rms_norm"
        and found.sources()["oracle.py"].parent.parent.name == "patterns"
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.cpp", "#include <torch/extension.h>", "torch/extension.h"),
        ("a.cpp", "PYBIND11_MODULE(x, m) {}", "pybind11"),
        ("a.cpp", "TORCH_LIBRARY(mine, m) {}", "fixed name"),
        ("torch-ext/p/f.py", "import einops, requests", "import requests"),
        ("torch-ext/p/f.py", "from p.layers import X", "imports itself relatively"),
        ("torch-ext/p/f.py", "import torch\ntorch.ops._p_cpu_1.f(1)", "changes with every build"),
        (
            "torch-ext/p/f.py",
            "import torch\n@torch.library.register_fake('p::f')\ndef _(): pass",
            "names its op itself",
        ),
        ("torch-ext/p/layers.py", "class A:\n    def __init__(self): pass", "only forward"),
        ("torch-ext/p/layers.py", "class A:\n    cache = {}\n    def forward(self): pass", "A.cache"),
    ],
)
def test_what_the_hub_forbids_is_found(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    found = script("rules").violations(tmp_path, "p")
    assert len(found) == 1 and said in found[0]


def test_every_pattern_keeps_the_rules_of_the_hub_and_of_schemas() -> None:
    rules, schema, place = script("rules"), script("schema"), SCRIPTS.parent / "patterns"
    for folder in sorted(path.parent for path in place.glob("*/oracle.py")):
        text = (folder / "oracle.py").read_text()
        written = text.partition('SCHEMA = "')[2].partition('"')[0]
        assert schema.parse(written).op == folder.name
        for path in folder.glob("*.py"):
            if path.name != "oracle.py":
                assert rules.of_python(path, "p") == [], path


def test_an_op_that_replaces_no_module_is_specified_by_its_typical_sizes(tmp_path: Path, model: Path) -> None:
    (tmp_path / "sources").mkdir()
    own = (SCRIPTS.parent / "patterns" / "silu_mul" / "oracle.py").read_text().replace("def of_config", "def unused")
    (tmp_path / "sources" / "oracle.py").write_text(own)
    options = ["--target", "H100", "--model", str(model)]
    assert run_state("spec", tmp_path, *options).returncode == 0
    told = json.loads((tmp_path / "kernel.json").read_text())
    assert {one["phase"] for one in told["sizes"]} == {"typical"} and "no module" in parts(tmp_path, "spec")["modules"][
        "reason"
    ]
    (tmp_path / "sources" / "oracle.py").write_text(own.replace("MODULES = None, None", "MODULES = None, 'NoSuchNorm'"))
    assert run_state("spec", tmp_path, *options).returncode == 1
    assert "no module NoSuchNorm. Its classes: " in parts(tmp_path, "spec")["modules"]["reason"]
