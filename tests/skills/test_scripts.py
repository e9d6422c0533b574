"""The scripts of the skills, each run as a person would run it: right results, and one line when something is wrong."""

import http.server
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.skills.hub import Hub
from tests.tiny_model import tiny_model

SET = ROOT / "skills"
Done = subprocess.CompletedProcess[str]


def run(script: str, *args: object, cwd: Path | None = None, stdin: str = "", **envs: str) -> Done:
    command = [sys.executable, str(SET / script), *map(str, args)]
    env = {**os.environ, **envs}
    return subprocess.run(
        command, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=110, check=False
    )


def told(done: Done) -> Any:
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def refused(done: Done, *words: str) -> bool:
    """Exit code 2 and one line that says what is wrong."""
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return all(word in done.stderr for word in words)


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve({path: JSON, or (status, JSON)})`: a server that answers so; what it heard is in `seen`."""
    servers = []

    def start(pages: dict[str, Any], seen: list | None = None) -> str:  # type: ignore[type-arg]
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
                if seen is not None:
                    seen.append((self.command, self.path, dict(self.headers), body))
                page = pages.get(self.path.partition("?")[0], (404, {"error": "no such page"}))
                page = page(body) if callable(page) else page
                status, value = page if isinstance(page, tuple) else (200, page)
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_DELETE = do_GET

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# -- local-models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gib", "model"), [(0, "Qwen3.5-4B"), (10.9, "Qwen3.5-4B"), (24, "Qwen3.8-27B"), (900, "122B")]
)
def test_the_largest_model_that_fits_is_chosen(gib: float, model: str) -> None:
    found = told(run("local-models/scripts/choose.py", "--gib", gib))
    assert model in found["model"] and found["start"] and found["url"].startswith("http://127.0.0.1:")


def test_an_old_table_says_so(tmp_path: Path) -> None:
    table = (SET / "local-models/assets/models.toml").read_text().replace("date = 2026", "date = 2024")
    (tmp_path / "old.toml").write_text(table)
    found = told(run("local-models/scripts/choose.py", "--gib", 24, "--table", tmp_path / "old.toml"))
    assert "look for newer" in found["warning"]


def test_memory_is_weights_and_cache_and_a_share(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "hidden_size": 512, "max_position_embeddings": 8192}))
    common = ["--config", tmp_path / "config.json", "--params-billion", 8, "--bits", 8, "--context", 8192]
    found = told(run("local-models/scripts/fits.py", *common, "--gib", 9))
    weights, cache = 8e9 / 2**30, 2 * 10 * 2 * 64 * 2 * 8192 / 2**30
    assert found["need_gib"] == pytest.approx((weights + cache) * 1.1, abs=0.01) and found["fits"]
    assert found["longest_context_that_fits"] == 8192
    tight = told(run("local-models/scripts/fits.py", *common, "--gib", 8))
    assert not tight["fits"] and tight["longest_context_that_fits"] == 0
    (tmp_path / "config.json").write_text("{}")
    assert refused(run("local-models/scripts/fits.py", *common, "--gib", 8), "config.json")


@pytest.mark.parametrize(
    ("pages", "server", "context"),
    [
        ({"/props": {"default_generation_settings": {"n_ctx": 4096}}}, "llama.cpp", 4096),
        ({"/api/version": {"version": "1"}, "/api/ps": {"models": [{"context_length": 2048}]}}, "Ollama", 2048),
        ({"/get_server_info": {"context_length": 9000}}, "SGLang", 9000),
        ({"/v1/models": {"data": [{"id": "m", "max_model_len": 100}]}}, "vLLM", 100),
        ({"/api/v0/models": {"data": []}}, "LM Studio", None),
        ({}, "unknown, OpenAI-compatible", None),
    ],
)
def test_a_server_is_known_by_what_it_answers(serve: Serve, pages: dict, server: str, context: int | None) -> None:  # type: ignore[type-arg]
    found = told(run("local-models/scripts/probe.py", serve({"/v1/models": {"data": [{"id": "m"}]}, **pages}) + "/v1"))
    assert (found["server"], found["context"], found["models"]) == (server, context, ["m"])


def test_where_nothing_answers_the_probe_fails() -> None:
    done = run("local-models/scripts/probe.py", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1 and told(done)["server"] is None


# -- hub and papers --------------------------------------------------------------------------------------------------


def test_the_size_of_a_repository_is_known_before_a_download(hub: Hub) -> None:
    online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    found = told(run("hub/scripts/repo_size.py", "Qwen/Qwen3-0.6B", "--include", "*.safetensors", **online))
    assert (found["files"], found["bytes"]) == (1, 2048)
    assert refused(run("hub/scripts/repo_size.py", "acme/gone", **online), "acme/gone")
    assert refused(run("hub/scripts/repo_size.py", "Qwen/Qwen3-0.6B"), "HF_HUB_OFFLINE")


def test_a_paper_is_named_once_and_nothing_else_changes(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\n---\n\n# Model\n\n## Citation\n\nPlease cite.\n\n## Limits\n\nMany.\n")
    args = [
        card,
        "--paper",
        "https://arxiv.org/abs/2305.18290v2",
        "--title",
        "DPO",
        "--authors",
        "Rafailov, R",
        "--year",
        "2023",
    ]
    assert told(run("papers/scripts/link_paper.py", *args))["changed"]
    text = card.read_text()
    assert "https://arxiv.org/abs/2305.18290)" in text and "@misc{rafailov2023," in text
    assert text.index("arxiv.org") < text.index("Please cite.") < text.index("## Limits")
    assert not told(run("papers/scripts/link_paper.py", *args))["changed"] and card.read_text() == text
    assert refused(run("papers/scripts/link_paper.py", card, "--paper", "x", *args[3:]), "no arXiv id")


# -- trackio ---------------------------------------------------------------------------------------------------------


def test_runs_are_compared_by_their_last_row_of_each_step(tmp_path: Path) -> None:
    code = """
import trackio
for name, values in (("a", [3, 2, 1]), ("b", [3, float("nan"), 2])):
    trackio.init(project="p", name=name, config={"lr": name, "same": 1})
    for step, value in enumerate(values):
        trackio.log({"train/loss": value, "train/global_step": step})
    if name == "a":
        trackio.log({"train/loss": 5, "train/global_step": 2})  # resumed: the step came again
    trackio.finish()
"""
    env = {"TRACKIO_DIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, check=True, capture_output=True, timeout=100
    )
    script = ["trackio/scripts/compare_runs.py", "--project", "p", "--dir", tmp_path]
    found = told(run(*script, "--metric", "train/loss"))
    assert [(run["run"], run["last"], run["best"], run["not_finite"]) for run in found["runs"]] == [
        ("a", 5, 2, 0),
        ("b", 2, 2, 1),
    ]
    assert found["configs_differ_in"] == ["lr"]
    assert told(run(*script, "--metric", "train/loss", "--highest"))["best_run"] == "a"
    assert told(run(*script))["runs"][0]["metrics"] == ["train/global_step", "train/loss"]
    assert refused(run(*script, "--metric", "nothing"), "Leave --metric out")
    assert refused(run(*script[:2], "q", *script[3:]), "There are: p")


# -- dataset-builder -------------------------------------------------------------------------------------------------

USER, GOOD, BAD = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "gpt", "content": "x"},
)


@pytest.mark.parametrize(
    ("rows", "form", "verdict"),
    [
        ([{"messages": [USER, GOOD]}], "sft-messages", "ready"),
        ([{"messages": [USER, BAD]}], "sft-messages", "mend"),
        ([{"messages": [USER]}], "sft-messages", "mend"),
        ([{"messages": "Hi"}], "sft-messages", "mend"),
        ([{"conversations": [{"from": "human", "value": "x"}]}], "sharegpt", "unusable"),
        ([{"prompt": "a", "completion": "b"}], "sft-prompt", "ready"),
        ([{"prompt": "a", "completion": " "}], "sft-prompt", "mend"),
        ([{"chosen": "a", "rejected": "b"}], "dpo", "ready"),
        ([{"prompt": "p", "chosen": "a", "rejected": "a"}], "dpo", "mend"),
        ([{"prompt": "p", "completion": "a", "label": True}], "kto", "ready"),
        ([{"prompt": "p", "completion": "a", "label": "yes"}], "kto", "mend"),
        ([{"prompt": "p", "answer": "4"}], "grpo", "ready"),
        ([{"prompt": "p", "completions": ["a"], "labels": [True]}], "prm", "unusable"),
        ([{"anchor": "a", "positive": "b"}], "pairs", "ready"),
        ([{"text": "a", "label": 1}], "classification", "ready"),
        ([{"foo": "a"}], "unknown", "unusable"),
        ([{"text": "a"}, {"prompt": "p"}], "text", "mend"),
    ],
)
def test_a_file_is_judged_by_its_values(tmp_path: Path, rows: list, form: str, verdict: str) -> None:  # type: ignore[type-arg]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("dataset-builder/scripts/check.py", path)
    found = told(done)
    assert (found["form"], found["verdict"], done.returncode) == (form, verdict, int(verdict != "ready"))


def test_duplicates_and_secrets_are_counted(tmp_path: Path) -> None:
    token = "hf_" + "a" * 34
    texts = ["One, two.", "one two", "1+1", "1-1", f"my key {token}", "write to ann@example.org"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = told(run("dataset-builder/scripts/check.py", tmp_path / "rows.jsonl"))
    assert (found["duplicates"], found["rows_with_mail_addresses"], found["rows_with_secrets"]) == (1, 1, [5])


def test_every_kind_of_file_is_read_and_others_are_refused(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"question": ["a", "b"], "answer": ["c", "d\ne"]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_csv(tmp_path / "x.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_json(tmp_path / "x.json", orient="records")
    frame.to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "x.csv").read_bytes())
    made = set()
    for name in ("x.csv", "x.tsv", "x.parquet", "x.json", "x.jsonl", "bom.csv"):
        args = [tmp_path / name, tmp_path / "out.jsonl", "--user", "question", "--assistant", "answer"]
        assert told(run("dataset-builder/scripts/convert.py", *args))["rows"] == 2, name
        made.add((tmp_path / "out.jsonl").read_text())
    assert len(made) == 1
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    script, out = "dataset-builder/scripts/convert.py", tmp_path / "out.jsonl"
    assert refused(run(script, tmp_path / "x.xlsx", out), ".xlsx")
    assert refused(run(script, tmp_path / "gone.csv", out), "gone.csv")
    assert refused(run(script, tmp_path / "x.csv", tmp_path / "x.csv"), "new file")
    assert refused(run(script, tmp_path / "x.csv", out, "--user", "frage", "--assistant", "answer"), "question, answer")


def test_an_unknown_role_is_refused_and_not_dropped(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "a"}, {"from": "narrator", "value": "b"}]
    (tmp_path / "x.json").write_text(json.dumps([{"conversations": talk}]))
    assert refused(
        run("dataset-builder/scripts/convert.py", tmp_path / "x.json", tmp_path / "o.jsonl"), "narrator", "row 1"
    )


def test_a_split_keeps_questions_together_whatever_their_order(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {i % 40}?", "completion": f"Answer {i}"} for i in range(120)]
    sides = []
    for name, ordered in (("a", rows), ("b", rows[::-1])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ordered))
        args = [tmp_path / f"{name}.jsonl", "--into", tmp_path / name, "--test", 0.25, "--seed", 3]
        found = told(run("dataset-builder/scripts/split.py", *args))
        assert found["train"] + found["test"] == 120 and found["duplicates_removed"] == 0
        asked = [
            {json.loads(line)["prompt"] for line in (tmp_path / name / f"{side}.jsonl").open()}
            for side in ("train", "test")
        ]
        assert not asked[0] & asked[1] and len(asked[1]) >= 3
        sides.append(asked)
    assert sides[0] == sides[1]
    (tmp_path / "one.jsonl").write_text('{"text": "alone"}\n')
    done = run("dataset-builder/scripts/split.py", tmp_path / "one.jsonl", "--into", tmp_path / "c")
    assert done.returncode == 1 and "One side is empty" in done.stderr


# -- gradio-apps -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_form_serves_answers_and_tells_errors() -> None:
    app = SET / "gradio-apps/assets/form_app.py"
    found = told(run("gradio-apps/scripts/smoke.py", app, "--call", "/predict", "--data", '["hi", 3]'))
    assert found["result"] == ["hi hi hi"] and found["endpoints"] == {"/predict": ["text", "times"]}
    done = run("gradio-apps/scripts/smoke.py", app, "--call", "/predict", "--data", '["", 3]')
    assert done.returncode == 1 and "error" in told(done)


@pytest.mark.slow
def test_the_chat_streams_what_a_server_says(serve: Serve, tmp_path: Path) -> None:
    from tests.agent.scripted_server import ScriptedServer

    app = SET / "gradio-apps/assets/chat_app.py"
    with ScriptedServer(["Good day to you."]) as server:
        done = run("gradio-apps/scripts/smoke.py", app, "--call", "/chat", "--data", '["Hello"]', MODEL_URL=server.url)
        assert "Good day to you." in str(told(done)["result"])
        assert server.messages()[-1] == {"role": "user", "content": "Hello"}


@pytest.mark.slow
def test_an_app_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit('no model here')\n")
    done = run("gradio-apps/scripts/smoke.py", tmp_path / "app.py")
    assert done.returncode == 1 and "no model here" in told(done)["output"] and "it ended" in told(done)["why"]


# -- evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scorer", "said", "answer", "right"),
    [
        ("exact", " Paris ", "paris", True),
        ("exact", "It is Paris", "Paris", False),
        ("contains", "It is Paris.", "paris", True),
        ("contains", "Comparison", "paris", False),
        ("number", "3 plus 4 is 7.", "7", True),
        ("number", "It costs 1,000", "1000", True),
        ("number", "It is -2.50", "-2.5", True),
        ("number", "I do not know", "7", False),
        ("letter", "The answer is (B).", "B", True),
        ("letter", "B", "b", True),
        ("letter", "A good answer: C", "C", True),
        ("letter", "A good question", "B", False),
        ("number", "<think>it may be 9</think>8", "9", False),
        ("number", "<think>9", "9", False),
    ],
)
def test_answers_are_scored(serve: Serve, tmp_path: Path, scorer: str, said: str, answer: str, right: bool) -> None:
    reply = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "?", "answer": answer}) + "\n")
    url = serve({"/v1/chat/completions": reply}) + "/v1"
    common = ["--data", tmp_path / "rows.jsonl", "--url", url, "--out", tmp_path / "out.json"]
    assert told(run("evaluation/scripts/evaluate.py", *common, "--scorer", scorer))["score"] == float(right)
    assert json.loads((tmp_path / "out.jsonl").read_text())["said"] == said


def test_a_server_that_fails_gives_no_score(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "?", "answer": "1"}\n')
    url = serve({"/v1/chat/completions": (500, {"error": "broken"})}) + "/v1"
    common = ["--data", tmp_path / "rows.jsonl", "--url", url, "--out", tmp_path / "out.json", "--scorer", "exact"]
    assert refused(run("evaluation/scripts/evaluate.py", *common), "does not answer")
    assert not (tmp_path / "out.json").exists()
    (tmp_path / "rows.jsonl").write_text('{"question": "?"}\n')
    assert refused(run("evaluation/scripts/evaluate.py", *common), "row 1 needs prompt")


@pytest.mark.slow
def test_a_model_on_disk_is_scored(tmp_path: Path) -> None:
    rows = [{"prompt": f"How much is {i} plus 1?", "answer": str(i + 1)} for i in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["--data", tmp_path / "rows.jsonl", "--model", tiny_model(), "--scorer", "number", "--max-tokens", 4]
    found = told(run("evaluation/scripts/evaluate.py", *common, "--out", tmp_path / "out.json"))
    assert (found["n"], found["cut_off"]) == (3, 3)


def test_two_results_are_compared_row_by_row(tmp_path: Path) -> None:
    def result(name: str, right: list[bool], **more: Any) -> Path:
        found = {"score": sum(right) / len(right), "data": {"sha256": "x"}, "settings": {}, "right": right, **more}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(found))
        return path

    base, better = result("base", [False] * 50 + [True] * 50), result("better", [True] * 80 + [False] * 20)
    done = run("evaluation/scripts/compare.py", base, better)
    found = json.loads(done.stdout[: done.stdout.rindex("VERDICT")])
    assert (found["delta"], found["became_right"], found["became_wrong"]) == (0.3, 50, 20)
    assert found["p"] == pytest.approx(0.000436, rel=0.01) and found["significant"]
    assert done.stdout.endswith("VERDICT: WIN\n")
    assert "VERDICT: REGRESSION\n" in run("evaluation/scripts/compare.py", better, base).stdout
    assert "VERDICT: NO EVIDENCE\n" in run("evaluation/scripts/compare.py", base, base).stdout
    other = result("other", [True] * 100, data={"sha256": "y"})
    assert refused(run("evaluation/scripts/compare.py", base, other), "different rows")


# -- gguf-export -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    assert run("gguf-export/scripts/to_gguf.py", tiny_model(), path).returncode == 0
    return path


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_a_file_holds_the_weights_of_its_model(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.gguf"
    assert told(run("gguf-export/scripts/to_gguf.py", tiny_model(), path, "--type", kind))["tensors"] == 46
    found = told(run("gguf-export/scripts/check_gguf.py", path, "--against", tiny_model()))
    assert found["ok"] and found["eos"] == "<|im_end|>" and found["vocabulary"] == 2048 and found["chat_template"]
    assert kind in found["tensors"]


def test_the_layout_is_that_of_version_three(gguf: Path) -> None:
    """Read with nothing of ours: the first key, and one tensor found by its place in the table."""
    raw = gguf.read_bytes()
    assert struct.unpack_from("<4sIQ", raw) == (b"GGUF", 3, 46)
    length = struct.unpack_from("<Q", raw, 24)[0]
    assert raw[32 : 32 + length] == b"general.architecture"
    assert struct.unpack_from("<IQ", raw, 32 + length) == (8, 5) and raw[44 + length : 49 + length] == b"qwen3"
    name = b"output_norm.weight"
    at = raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
    dims, rows, kind, offset = struct.unpack_from("<IQIQ", raw, at)
    assert (dims, rows, kind, offset % 32) == (1, 256, 0, 0)
    name = b"token_embd.weight"
    at = raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
    assert struct.unpack_from("<IQQI", raw, at) == (2, 256, 2048, 1)  # the fastest dimension comes first
    assert len(raw) % 32 == 0


def test_each_weight_stands_under_the_name_that_llama_cpp_gives_it(gguf: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(tiny_model() / "model.safetensors")
    raw = gguf.read_bytes()
    parts = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    named = {f"self_attn.{ours}": theirs for ours, theirs in parts.items()}
    named |= {f"mlp.{kind}_proj": f"ffn_{kind}" for kind in ("gate", "up", "down")}
    for ours, theirs in named.items():
        values = weights[f"model.layers.1.{ours}.weight"].numpy().astype("<f2").tobytes()
        name = f"blk.1.{theirs}.weight".encode()
        at = raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
        assert (raw.index(values) - struct.unpack_from("<IQQIQ", raw, at)[4]) == data_start(raw), theirs


def data_start(raw: bytes) -> int:
    """Behind the table of tensors: the last name in it is the one that sorts last."""
    name = b"token_embd.weight"
    end = raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + struct.calcsize("<IQQIQ")
    return -(-end // 32) * 32


def test_eight_bits_are_rounded_as_llama_cpp_does() -> None:
    code = f"""
import sys; sys.path.insert(0, {str(SET / "gguf-export/scripts")!r})
import numpy as np, gguf_file as gguf
values = np.zeros((2, 32), np.float32); values[0, :4] = [127, -127, 0.5, -1.5]
raw = gguf.coded(values, "q8_0"); print(raw.shape, raw.tobytes().hex())
"""
    out = subprocess.check_output([sys.executable, "-c", code], text=True).split(") ")
    raw = bytes.fromhex(out[1])
    assert raw[:2] == np.float16(1).tobytes() and list(np.frombuffer(raw[2:6], np.int8)) == [127, -127, 1, -2]
    assert raw[34:] == bytes(34)


def test_a_damaged_or_wrong_file_is_not_ok(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(gguf.read_bytes()[:-4000])
    (tmp_path / "none.gguf").write_bytes(b"PK\x03\x04")
    changed = bytearray(gguf.read_bytes())
    changed[-3000:-1000] = bytes(2000)
    (tmp_path / "changed.gguf").write_bytes(changed)
    for name in ("cut", "none", "changed"):
        done = run("gguf-export/scripts/check_gguf.py", tmp_path / f"{name}.gguf", "--against", tiny_model())
        assert done.returncode == 1 and not told(done)["ok"], name


def test_models_that_the_writer_does_not_know_are_refused(tmp_path: Path) -> None:
    shutil.copytree(tiny_model(), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    out = tmp_path / "m.gguf"
    for change, word in (
        ({"model_type": "llama"}, "convert_hf_to_gguf"),
        ({"attention_bias": True}, "biases"),
        ({"num_hidden_layers": 5}, "missing"),
        ({"vocab_size": 100}, "do not belong together"),
    ):
        (tmp_path / "m" / "config.json").write_text(json.dumps(config | change))
        assert refused(run("gguf-export/scripts/to_gguf.py", tmp_path / "m", out), word), change
    (tmp_path / "m" / "adapter_config.json").write_text("{}")
    assert refused(run("gguf-export/scripts/to_gguf.py", tmp_path / "m", out), "Merge it first")
    assert not out.exists()


@pytest.mark.slow
def test_an_adapter_is_merged_and_one_that_does_nothing_is_told(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for name, works in (("trained", True), ("untrained", False)):
        model = AutoModelForCausalLM.from_pretrained(tiny_model())
        config = LoraConfig(target_modules="all-linear", init_lora_weights=not works, task_type="CAUSAL_LM")
        get_peft_model(model, config).save_pretrained(tmp_path / name)
        done = run("gguf-export/scripts/merge.py", tmp_path / name, tmp_path / f"{name}-merged", "--dtype", "float32")
        assert done.returncode == int(not works), done.stderr
        assert (told(done)["largest_change"] > 0) == works
    done = run("gguf-export/scripts/to_gguf.py", tmp_path / "trained-merged", tmp_path / "t.gguf")
    assert done.returncode == 0, done.stderr
    assert refused(run("gguf-export/scripts/merge.py", tiny_model(), tmp_path / "x"), "nothing to merge")


# -- tool-builder ----------------------------------------------------------------------------------------------------

PETS = SET / "tool-builder/evals/files/petstore.json"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    assert run("tool-builder/scripts/build_tools.py", PETS, "--into", tmp_path / "tools").returncode == 0
    return tmp_path / "tools"


def tool(tools: Path, name: str, *args: object, stdin: str = "", **envs: str) -> Done:
    return run(str(tools / f"{name}.py"), *args, stdin=stdin, **envs)


def test_a_built_tool_calls_its_api(tools: Path, serve: Serve) -> None:
    seen: list[Any] = []
    url = serve({"/pets": [{"id": 1, "name": "Zoë"}], "/pets/7": {}}, seen)
    own = {"API_URL": url, "API_TOKEN": "secret-word"}
    done = tool(tools, "list-pets", "--limit", 2, "--status", "free", **own)
    assert told(done) == [{"id": 1, "name": "Zoë"}]
    method, path, headers, _ = seen[-1]
    assert (method, path, headers["X-Pet-Key"]) == ("GET", "/pets?limit=2&status=free", "secret-word")
    assert told(tool(tools, "pick", "name", stdin=done.stdout)) == {"name": "Zoë"}
    assert tool(tools, "create-pet", "--body", "-", stdin='{"name": "Rex"}', **own).returncode == 0
    assert (seen[-1][0], json.loads(seen[-1][3])) == ("POST", {"name": "Rex"})
    assert tool(tools, "delete-pet", 7, **own).returncode == 0 and seen[-1][:2] == ("DELETE", "/pets/7")


def test_a_dry_run_sends_nothing_and_shows_no_secret(tools: Path, serve: Serve) -> None:
    seen: list[Any] = []
    own = {"API_URL": serve({}, seen), "API_TOKEN": "secret-word"}
    done = tool(
        tools, "create-pet", "--name", "Rex", "--tags", "a", "--tags", "b", "--vaccinated", "true", "--dry-run", **own
    )
    assert told(done)["body"] == {"name": "Rex", "tags": ["a", "b"], "vaccinated": True}
    assert seen == [] and "secret-word" not in done.stdout


def test_a_busy_server_is_asked_again_but_nothing_is_done_twice(tools: Path, serve: Serve) -> None:
    seen: list[Any] = []
    own = {"API_URL": serve({"/pets": (503, {"error": "busy"})}, seen)}
    done = tool(tools, "list-pets", **own)
    assert done.returncode == 1 and "503" in done.stderr and len(seen) == 3
    assert tool(tools, "create-pet", "--name", "x", **own).returncode == 1 and len(seen) == 4


def test_wrong_use_of_a_tool_is_refused_before_anything_is_sent(tools: Path) -> None:
    for args in (["list-pets", "--status", "gone"], ["list-pets", "--limit", "x"], ["create-pet"], ["get-pet"]):
        assert tool(tools, *args).returncode == 2, args


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"swagger": "2.0", "paths": {}}', "Swagger 2"),
        ("[]", "no OpenAPI 3"),
        ("{", "neither JSON nor YAML"),
        ('{"openapi": "3.1.0", "paths": {"/a": {"$ref": "other.json#/a"}}}', "leads nowhere"),
        ('{"openapi": "3.1.0"}', "no operations"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "api.json").write_text(text)
    assert refused(run("tool-builder/scripts/build_tools.py", tmp_path / "api.json", "--into", tmp_path / "t"), word)


def test_a_hostile_description_writes_no_code_of_its_own(tmp_path: Path) -> None:
    evil = '"""\nimport os; os.system("touch owned")\n"""'
    item = {
        "operationId": "../../x",
        "summary": evil,
        "parameters": [{"name": "a b", "in": "query", "description": evil}],
    }
    described = {"openapi": "3.1.0", "servers": [{"url": "http://127.0.0.1:1"}], "paths": {f"/{evil}": {"get": item}}}
    (tmp_path / "api.json").write_text(json.dumps(described))
    into = tmp_path / "tools"
    assert run("tool-builder/scripts/build_tools.py", tmp_path / "api.json", "--into", into).returncode == 0
    made = sorted(path.name for path in into.iterdir())
    assert made == ["README.md", "api.py", "pick.py", "x.py"]
    assert run(str(into / "x.py"), "--a-b", "1", "--dry-run", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "owned").exists()
