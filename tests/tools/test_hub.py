"""The Hub's tools against a Hub on loopback, through the real huggingface_hub."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.fake_hub import FakeHub
from tests.tools.hub_samples import GOOD, STALE
from tools.context import Cancelled, Context, ToolError
from tools.hub import find_files, list_files, read_file, repo_details, search_hub, whoami
from tools.hubs import client

pytestmark = pytest.mark.usefixtures("context")


def column(table: dict, name: str) -> list:
    return [row[table["columns"].index(name)] for row in table["rows"]]


def test_without_a_token_nobody_is_signed_in_and_nothing_is_asked(hub: FakeHub) -> None:
    assert whoami()["user"] is None
    assert hub.seen == []


def test_the_account_and_the_rights_of_its_token_are_told(hub: FakeHub, context: Context) -> None:
    context.hf_token = GOOD
    me = whoami()
    assert (me["user"], me["orgs"], me["plan"], me["token_role"]) == ("ann", ["team"], "pro", "fineGrained")
    assert me["scopes"] == ["job.write", "repo.write"]
    assert GOOD not in json.dumps(me)


def test_a_stale_token_is_told_and_how_to_replace_it(hub: FakeHub, context: Context) -> None:
    context.hf_token = STALE
    with pytest.raises(ToolError, match="settings/tokens") as caught:
        whoami()
    assert STALE not in str(caught.value)


def test_models_are_found_with_their_size_and_task(hub: FakeHub) -> None:
    found = search_hub("tiny")
    assert found["rows"] == [["acme/tiny-qwen", "text-generation", 880, 10, 3, False, "2026-05-04"]]


@pytest.mark.parametrize(
    ("kind", "query", "ids"),
    [
        ("dataset", "jokes", ["acme/jokes"]),
        ("collection", "small", ["acme/small-models-1"]),
        ("paper", "preference", ["2305.18290"]),
        ("space", "", []),
        ("model", "gated", ["acme/gated-llm"]),
    ],
)
def test_every_kind_can_be_searched(hub: FakeHub, kind: str, query: str, ids: list[str]) -> None:
    assert column(search_hub(query, kind=kind), "id") == ids


def test_filters_author_and_limit_narrow_a_search(hub: FakeHub) -> None:
    assert column(search_hub("", filters=["text-generation", "license:apache-2.0"]), "id") == ["acme/tiny-qwen"]
    assert column(search_hub("", author="nobody"), "id") == []
    assert len(search_hub("", author="acme", limit=2)["rows"]) == 2


def test_a_wrong_kind_or_sort_says_which_there_are(hub: FakeHub) -> None:
    with pytest.raises(ToolError, match="model, dataset, space, collection, paper"):
        search_hub("x", kind="modell")  # type: ignore[arg-type]
    with pytest.raises(ToolError, match="trending, downloads, likes, updated"):
        search_hub("x", sort="best")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spelling",
    [
        "acme/tiny-qwen",
        "hf://acme/tiny-qwen",
        "{hub}/acme/tiny-qwen",
        "https://huggingface.co/acme/tiny-qwen/tree/main",
    ],
)
def test_a_model_is_described_however_it_is_named(hub: FakeHub, spelling: str) -> None:
    found = repo_details(spelling.replace("{hub}", hub.url))
    facts = found["details"]
    assert (facts["parameters"], facts["license"], facts["architecture"]) == (880, "apache-2.0", "qwen3")
    assert (facts["files"], facts["gated"], facts["base_model"]) == (4, False, "acme/base")
    assert facts["bytes"] == sum(map(len, hub.repos[0].files.values()))
    assert "A tiny model for tests." in found["markdown"] and "<img" not in found["markdown"]


def test_parameters_come_from_the_file_when_the_hub_has_not_counted(hub: FakeHub) -> None:
    assert repo_details("acme/uncounted")["details"]["parameters"] == 880


def test_a_bare_id_is_found_among_datasets_too_and_its_structure_told(hub: FakeHub) -> None:
    facts = repo_details("acme/jokes")["details"]
    assert facts["kind"] == "dataset"
    assert facts["configs"] == [
        {
            "name": "default",
            "splits": {"train": 1200, "test": 100},
            "features": {"joke": "string", "tags": "list of string"},
        }
    ]
    assert facts["size"] == "1K<n<10K"


def test_a_collection_is_listed_by_slug_and_by_address(hub: FakeHub) -> None:
    for spelling in ("collections/acme/small-models-1", f"{hub.url}/collections/acme/small-models-1"):
        items = repo_details(spelling)["details"]["items"]
        assert [item["id"] for item in items] == ["acme/tiny-qwen", "acme/jokes"]


def test_an_unknown_repository_names_the_nearest(hub: FakeHub) -> None:
    with pytest.raises(ToolError, match="Did you mean: acme/tiny-qwen"):
        repo_details("acme/tiny-qwen3")


def test_an_impossible_name_is_told_as_such(hub: FakeHub) -> None:
    with pytest.raises(ToolError, match="must use alphanumeric"):
        repo_details("two words")


def test_a_gated_repository_says_where_to_accept(hub: FakeHub) -> None:
    with pytest.raises(ToolError, match="accept its conditions and sign in") as caught:
        read_file("hf://acme/gated-llm/config.json")
    assert f"{hub.url}/acme/gated-llm" in str(caught.value)


def test_a_gated_repository_is_described_as_far_as_it_is_open(hub: FakeHub) -> None:
    found = repo_details("acme/gated-llm")
    assert (found["details"]["gated"], found["details"]["parameters"]) == ("manual", None)
    assert "Ask first." in found["markdown"]


def test_a_private_repository_needs_its_owners_token(hub: FakeHub, context: Context) -> None:
    with pytest.raises(ToolError, match="not found on the Hub, or it is private"):
        read_file("hf://ann/secret/config.json")
    context.hf_token = GOOD
    assert read_file("hf://ann/secret/config.json")["text"] == '{"mine": true}'


@pytest.mark.parametrize(
    "call",
    [
        lambda: search_hub("tiny"),
        lambda: repo_details("acme/tiny-qwen"),
        lambda: list_files("hf://acme/tiny-qwen"),
        lambda: read_file("hf://acme/tiny-qwen/config.json"),
    ],
)
def test_a_stale_token_is_left_out_on_public_data_and_that_is_said(
    hub: FakeHub, context: Context, call: Callable[[], dict]
) -> None:
    context.hf_token = STALE
    found = call()
    assert found["note"].startswith(client.NOT_ACCEPTED)
    assert STALE not in json.dumps(found)


def test_a_refusal_that_repeats_the_token_is_told_without_it(hub: FakeHub, context: Context) -> None:
    context.hf_token = GOOD
    hub.faults["/api/models"] = ["forbidden"]
    with pytest.raises(ToolError, match=r"lacks read") as caught:
        search_hub("tiny")
    assert GOOD not in str(caught.value)
    assert GOOD not in repr(caught.value.__cause__)


def test_the_token_does_not_follow_a_file_to_another_host(hub: FakeHub, context: Context) -> None:
    context.hf_token = GOOD
    with pytest.raises(ToolError, match="safetensors"):
        read_file("hf://acme/tiny-qwen/model.safetensors")
    headers = {path.split("/")[1]: headers for _, path, headers in hub.seen}
    assert headers["acme"]["authorization"] == f"Bearer {GOOD}"
    assert "authorization" not in {name.lower() for name in headers["cdn"]}


def test_no_token_of_the_machine_is_used(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD)
    search_hub("tiny")
    assert all("authorization" not in {name.lower() for name in headers} for _, _, headers in hub.seen)


def test_folders_and_files_are_listed_with_sizes(hub: FakeHub) -> None:
    found = list_files("hf://acme/tiny-qwen")
    assert ["onnx", "folder", None] in found["rows"]
    assert ["config.json", "file", len(hub.repos[0].files["config.json"])] in found["rows"]
    assert column(list_files("hf://acme/tiny-qwen@main/onnx"), "path") == ["onnx/notes.txt"]


def test_files_are_found_by_pattern_over_many_pages(hub: FakeHub) -> None:
    hub.repos[0].files |= {f"shards/part-{n:03}.bin": b"x" for n in range(350)}
    hub.page_size = 40
    found = find_files("acme/tiny-qwen", "*.bin")
    assert (found["total"], len(found["rows"])) == (350, 200)
    assert "200 of 350 shown" in found["note"]
    assert column(find_files("acme/jokes", "*.jsonl"), "path") == ["data/train.jsonl"]
    assert "None of" in find_files("acme/jokes", "*.csv")["note"]


def test_a_long_file_is_read_in_pieces_that_join_again(hub: FakeHub) -> None:
    whole = hub.repos[-1].files["data/train.jsonl"].decode()
    text, start = "", 0
    while start is not None:
        piece = read_file("hf://datasets/acme/jokes/data/train.jsonl", start=start, length=9_999)
        text, start = text + piece["text"], piece["next_start"]
    assert text == whole
    with pytest.raises(ToolError, match="beyond its end"):
        read_file("hf://datasets/acme/jokes/data/train.jsonl", start=10_000_000)


@pytest.mark.parametrize("length", [1, 2, 5, 9])
def test_no_character_is_cut_between_two_pieces(hub: FakeHub, length: int) -> None:
    hub.repos[0].files["signs.txt"] = "aé€😀".encode() * 4
    text, start = "", 0
    while start is not None:
        piece = read_file("hf://acme/tiny-qwen/signs.txt", start=start, length=length)
        text, start = text + piece["text"], piece["next_start"]
    assert text == "aé€😀" * 4


def test_a_server_that_ignores_ranges_is_read_right_all_the_same(hub: FakeHub) -> None:
    data = hub.repos[-1].files["data/train.jsonl"]
    hub.on("GET", "/datasets/acme/jokes/resolve/main/data/train.jsonl", lambda ask: ask.send(data))
    piece = read_file("hf://datasets/acme/jokes/data/train.jsonl", start=30_000, length=100)
    assert data[30_000:30_100].decode(errors="ignore")[:50] in piece["text"]
    assert piece["size"] == len(data)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("hf://acme/tiny-qwen/model.safetensors", "safetensors"),
        ("hf://datasets/acme/jokes/data/test.parquet", "Parquet"),
    ],
)
def test_a_binary_file_is_refused_with_what_it_is(hub: FakeHub, path: str, what: str) -> None:
    with pytest.raises(ToolError, match=what):
        read_file(path)


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("hf://acme/tiny-qwen/notes.txt", "onnx/notes.txt"),
        ("hf://acme/tiny-qwen/onnx", "is a folder"),
        ("hf://acme/tiny-qwen", "Add a file's path"),
        ("hf://acme/tiny-qwen@nowhere/config.json", "revision"),
        ("hf://acme/tiny-qwen/../../etc/passwd", "must not contain"),
        ("/etc/passwd", "open it with Python"),
        ("http://169.254.169.254/latest/meta-data", "names no place"),
    ],
)
def test_a_wrong_path_says_what_to_write(hub: FakeHub, path: str, advice: str) -> None:
    with pytest.raises(ToolError, match=advice):
        read_file(path)


def test_a_short_rate_limit_is_waited_for_and_a_long_one_told(hub: FakeHub) -> None:
    hub.faults["/api/models"] = ["429 0"]
    assert search_hub("tiny")["rows"]
    hub.faults["/api/models"] = ["429 300"]
    begin = time.monotonic()
    with pytest.raises(ToolError, match="Wait 300 s"):
        search_hub("tiny")
    assert time.monotonic() - begin < 3


def test_trouble_of_the_server_is_tried_again_once_and_then_told(hub: FakeHub) -> None:
    hub.faults["/api/models"] = ["500"]
    assert search_hub("tiny")["rows"]
    hub.faults["/api/models"] = ["503"] * 9
    with pytest.raises(ToolError, match="HTTP 503"):
        search_hub("tiny")
    assert len(hub.faults["/api/models"]) == 7


@pytest.mark.parametrize(("fault", "said"), [("slow", "did not answer"), ("broken", "did not answer, or broke off")])
def test_a_server_that_hangs_or_breaks_off_is_given_up(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: str, said: str
) -> None:
    monkeypatch.setattr(client, "SECONDS", 0.5)
    hub.faults["/api/models"] = [fault] * 9
    begin = time.monotonic()
    with pytest.raises(ToolError, match=said):
        search_hub("tiny")
    assert time.monotonic() - begin < 5
    assert capfd.readouterr() == ("", "")


def test_something_else_than_a_hub_is_named(hub: FakeHub) -> None:
    hub.faults["/api/models"] = ["html"]
    with pytest.raises(ToolError, match="Check HF_ENDPOINT"):
        search_hub("tiny")


def test_a_cancel_ends_a_long_listing_between_two_pages(hub: FakeHub, context: Context) -> None:
    hub.repos[0].files |= {f"shards/{n}": b"x" for n in range(500)}
    hub.page_size = 1
    asked = threading.Event()
    threading.Thread(target=lambda: (asked.wait(10), context.cancel.set())).start()
    seen = hub.seen

    class Watched(list):
        def append(self, item: object) -> None:
            super().append(item)
            if len(self) > 5:
                asked.set()

    hub.seen = Watched(seen)
    with pytest.raises(Cancelled):
        find_files("hf://acme/tiny-qwen", "*")
    assert 5 < len(hub.seen) < 400


def download(hub: FakeHub) -> None:
    from huggingface_hub import hf_hub_download

    for name in hub.repos[0].files:
        hf_hub_download("acme/tiny-qwen", name, endpoint=hub.url, token=False)
    hf_hub_download("acme/jokes", "data/train.jsonl", repo_type="dataset", endpoint=hub.url, token=False)


def check_the_cache_answers(word: str) -> None:
    found = search_hub("tiny")
    assert (column(found, "id"), column(found, "files")) == (["acme/tiny-qwen"], [4])
    facts = repo_details("acme/tiny-qwen")["details"]
    assert (facts["parameters"], facts["license"], facts["architecture"]) == (880, "apache-2.0", "qwen3")
    assert column(list_files("acme/tiny-qwen"), "path") == ["README.md", "config.json", "model.safetensors", "onnx"]
    assert column(find_files("hf://datasets/acme/jokes", "*.jsonl"), "path") == ["data/train.jsonl"]
    piece = read_file("acme/jokes/data/train.jsonl", length=100)
    assert piece["text"].startswith('{"joke": "Ärger Nummer 0"}') and piece["next_start"]
    assert all(word in note for note in (found["note"], piece["note"]))


def test_offline_the_cache_answers_and_nothing_connects(hub: FakeHub, context: Context) -> None:
    download(hub)
    hub.seen.clear()
    context.offline, context.hf_token = True, GOOD
    check_the_cache_answers("Offline")
    with pytest.raises(ToolError, match="no model in the local cache fits"):
        search_hub("other")
    with pytest.raises(ToolError, match=r"acme/other is not in the local cache.*model acme/tiny-qwen"):
        repo_details("acme/other")
    with pytest.raises(ToolError, match=r"Cached of acme/jokes: data/train.jsonl"):
        read_file("hf://datasets/acme/jokes/README.md")
    with pytest.raises(ToolError, match="acme/tiny-qwen at v9 is not in the local cache"):
        read_file("hf://acme/tiny-qwen@v9/config.json")
    assert read_file(f"hf://acme/tiny-qwen@{hub.repos[0].sha[:8]}/config.json")["text"].startswith("{")
    assert whoami()["user"] is None
    assert hub.seen == []


def test_the_librarys_own_offline_switch_counts_too(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    download(hub)
    hub.seen.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    check_the_cache_answers("Offline")
    assert hub.seen == []


def test_the_cache_answers_when_the_hub_does_not(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    download(hub)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    check_the_cache_answers("may be out of date")
    with pytest.raises(ToolError, match=r"could not be reached|did not answer"):
        repo_details("acme/other")


def test_the_tools_print_nothing_and_import_quickly(hub: FakeHub, tmp_path: Path) -> None:
    code = """
import sys, time
import dataclasses, difflib, fnmatch, itertools, json, struct, urllib.parse, concurrent.futures, typing, threading
begin = time.process_time()
import tools.hub, tools.papers, tools.docs, tools.spaces
took = time.process_time() - begin
heavy = {"huggingface_hub", "gradio_client", "httpx", "httpx2", "yaml", "gradio"} & set(sys.modules)
from tools.hub import search_hub, read_file, repo_details
assert search_hub("tiny")["rows"] and repo_details("acme/tiny-qwen") and read_file("hf://acme/tiny-qwen/config.json")
sys.exit(f"{took=} {heavy=}" if heavy or took > 0.05 else 0)
"""
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
