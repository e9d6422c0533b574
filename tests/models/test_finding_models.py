"""Discovery, choice and recommendation, against loopback servers in the shapes of the real ones."""

import datetime
import socket
import sys
import time
import types
from pathlib import Path

import pytest
from fake_server import FakeServer

from agent.errors import UserError
from agent.models.discover import discover, identify, ollama_host, ollama_window
from agent.models.profile import Profile
from agent.models.recommend import Memory, load_table, memory_here, suggest
from agent.models.resolve import Choice, resolve

ROOT = Path(__file__).parents[2]
KEY = "planted-key-7f3a91c2"
KINDS = ["vllm", "sglang", "llamacpp", "ollama", "lmstudio", "openai"]


@pytest.fixture(autouse=True)
def no_ollama_here(monkeypatch):
    """Whoever runs the tests may have an Ollama: look at a port where none is."""
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{free_port()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def closed() -> tuple[int, ...]:
    return (free_port(),)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_is_known_by_its_answers_and_tells_its_real_window(kind):
    with FakeServer(kind, window=40_960) as server:
        found = identify(server.root)
    assert found.kind == kind and found.base_url == server.url
    assert [model.name for model in found.models] == ["Qwen/Qwen3-8B"]
    assert found.models[0].window == (None if kind == "openai" else 40_960)


def test_a_trained_length_is_not_taken_for_the_window():
    with FakeServer("lmstudio", loaded=False) as server:
        model = identify(server.root).models[0]
    assert model.window is None and model.loaded is False


def test_an_ollama_with_a_small_window_is_told_with_what_mends_it():
    with FakeServer("ollama", window=4096) as server:
        assert "OLLAMA_CONTEXT_LENGTH=64000" in identify(server.root).notes[0]
        assert ollama_window(server.url, server.models[0]) == 4096


def test_a_loading_server_is_told_as_loading():
    with FakeServer("llamacpp", faults=("loading",)) as server:
        found = identify(server.root)
    assert found.loading and found.kind == "llamacpp"


def test_models_that_cannot_chat_are_left_out():
    with FakeServer("ollama", models=("nomic-embed-text:latest", "qwen3.5:9b")) as server:
        assert [model.name for model in identify(server.root).models] == ["qwen3.5:9b"]


def test_all_ports_are_asked_at_once_and_a_mute_one_does_not_hold_the_others():
    with FakeServer("vllm") as one, FakeServer("llamacpp") as two, FakeServer(faults=("mute",)) as mute:
        begin = time.monotonic()
        found = discover((mute.port, one.port, two.port, *closed()))
        assert time.monotonic() - begin < 3
    assert [server.kind for server in found] == ["vllm", "llamacpp"]


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("localhost:1", "http://127.0.0.1:1"),
        (":7", "http://127.0.0.1:7"),
        ("https://box:8/", "https://box:8"),
    ],
)
def test_the_ollama_host_variable_is_read_in_all_its_spellings(monkeypatch, given, root):
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert ollama_host() == root


def test_discovery_follows_the_ollama_variable_on_loopback_only(monkeypatch):
    with FakeServer("ollama") as server:
        monkeypatch.setenv("OLLAMA_HOST", f"0.0.0.0:{server.port}")
        assert [found.kind for found in discover(closed())] == ["ollama"]
    asked = []
    monkeypatch.setenv("OLLAMA_HOST", "http://192.0.2.1:11434")
    monkeypatch.setattr("agent.models.discover.identify", lambda root: asked.append(root))
    discover((8000,))
    assert asked == ["http://127.0.0.1:8000"]


# choosing


@pytest.mark.parametrize(
    ("models", "best"),
    [
        (("llama3.3:70b", "qwen3.5:9b"), "qwen3.5:9b"),
        (("qwen3.5:27b", "qwen3-coder:30b"), "qwen3-coder:30b"),
        (("qwen2.5-coder:1.5b", "qwen3.5:9b"), "qwen3.5:9b"),
        (("llama3.3:70b", "deepseek-coder:33b"), "deepseek-coder:33b"),
        (("qwen3.5:4b", "qwen3.5:27b"), "qwen3.5:27b"),
    ],
)
def test_auto_prefers_a_qwen_coder_then_a_qwen(models, best):
    with FakeServer("ollama", models=models) as server:
        choice = resolve("auto", ports=(server.port,))
        assert choice.label == f"{best} (Ollama)" and choice.window == server.window
        assert server.url in choice.why and "\n" not in choice.why
        assert choice.model.generate([{"role": "user", "content": "x"}]).text


def test_auto_waits_for_a_server_that_is_loading():
    with FakeServer("llamacpp", faults=("loading",)) as server:
        choice = resolve("auto", ports=(server.port,))
        assert "loading" in choice.why
        assert choice.model.generate([{"role": "user", "content": "x"}]).text


def test_auto_goes_to_the_providers_only_with_a_token_and_not_offline():
    listed = load_table()["hf"]["models"]
    with FakeServer("openai", models=tuple(listed), key=KEY) as router:
        rest = {"ports": closed(), "router": router.url}
        assert resolve("auto", **rest).kind == "recipes"
        assert resolve("auto", hf_token=KEY, offline=True, **rest).kind == "recipes"
        choice = resolve("auto", hf_token=KEY, **rest)
        assert choice.label.startswith(listed[0]) and choice.kind == "hf" and "your text goes" in choice.why
        assert choice.model.generate([{"role": "user", "content": "x"}]).text


def test_auto_takes_recipes_when_the_providers_cannot_be_reached():
    choice = resolve("auto", hf_token=KEY, ports=closed(), router=f"http://127.0.0.1:{free_port()}/v1")
    assert choice.kind == "recipes" and "no language model" in choice.why


def test_recipes_are_imported_when_the_model_is_first_asked_for(monkeypatch):
    monkeypatch.delitem(sys.modules, "agent.models.recipes", raising=False)
    choice = resolve("recipes")
    assert "agent.models.recipes" not in sys.modules
    planted = types.ModuleType("agent.models.recipes")
    planted.build = lambda: "made"
    monkeypatch.setitem(sys.modules, "agent.models.recipes", planted)
    assert choice.model == "made"


def test_a_url_with_a_name_is_that_model_on_that_server():
    with FakeServer("vllm", models=("a", "b")) as server:
        assert resolve(f"{server.url}#b").model.model == "b"
        assert resolve(f"{server.root}#a", offline=True).model.base_url == server.url
        with pytest.raises(UserError, match=r"does not serve 'c'\. It has: a, b"):
            resolve(f"{server.url}#c")


def test_a_named_ollama_model_that_is_missing_is_not_replaced(monkeypatch):
    with FakeServer("ollama", models=("qwen3.5:9b",)) as server:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.port}")
        assert resolve("ollama/qwen3.5:9b").model.model == "qwen3.5:9b"
        with pytest.raises(UserError, match="ollama pull qwen3:8b"):
            resolve("ollama/qwen3:8b")


def test_a_named_server_that_is_another_is_said(monkeypatch):
    with FakeServer("vllm") as server:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.port}")
        with pytest.raises(UserError, match=r"No Ollama answers .*\(vLLM does\)"):
            resolve("ollama/x")


@pytest.mark.parametrize(
    ("spec", "options", "told"),
    [
        ("nonsense", {}, "names no model"),
        ("Qwen/Qwen3-8B", {}, "names no model"),
        ("hf/Qwen/Qwen3-8B", {}, "needs a Hugging Face token"),
        ("hf/Qwen/Qwen3-8B", {"offline": True, "hf_token": KEY}, "offline is set"),
        ("http://example.com/v1", {"offline": True}, "offline is set"),
        (f"http://user:{KEY}@127.0.0.1/v1", {}, "holds a password"),
        ("http://127.0.0.1:1/v1", {"api_key": KEY}, "No model server answers"),
        ("http://127.0.0.1:1/other", {}, "Add #NAME"),
        ("transformers/./nowhere", {}, "no config.json"),
        ("ollama/x", {}, "No Ollama answers"),
    ],
)
def test_what_cannot_be_had_is_an_error_that_says_what_to_do(spec, options, told):
    with pytest.raises(UserError, match=told) as caught:
        resolve(spec, **options)
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)


def test_a_server_that_wants_a_key_gets_it_and_a_hub_token_never_goes_there():
    with FakeServer("openai", key=KEY) as server:
        with pytest.raises(UserError, match="wants an API key"):
            resolve(server.url, hf_token=KEY)
        with pytest.raises(UserError, match="does not take"):
            resolve(server.url, api_key="wrong")
        choice = resolve(server.url, api_key=KEY)
        assert choice.model.generate([{"role": "user", "content": "x"}]).text
        assert KEY not in repr(choice) + repr(choice.model)


def test_a_saved_profile_is_gone_by(tmp_path):
    with FakeServer("vllm") as server:
        Profile("vllm", send_stops=True, leads=False).save(tmp_path, server.url, server.models[0])
        assert resolve(server.url, profiles=tmp_path).model.profile.send_stops
        assert not resolve(server.url).model.profile.send_stops


def test_a_model_is_made_once():
    made = []
    choice = Choice("x", "y", None, lambda: made.append(1) or object())
    assert choice.model is choice.model and made == [1]


# recommendation


def test_the_largest_row_that_fits_is_suggested_and_an_old_table_says_so():
    table = load_table()
    day = table["date"]
    assert suggest(Memory(16), table, day).model == "Qwen3.5-4B"
    card = suggest(Memory(64, (("RTX 4090", 23.99),)), table, day)
    assert card.model == "Qwen3.8-27B" and "llama-server" in card.start and card.warning is None
    assert suggest(Memory(512, (("H200", 139.8),)), table, day).model.startswith("Qwen3.5-122B")
    assert "look for newer" in suggest(Memory(16), table, day + datetime.timedelta(days=200)).warning


def test_the_memory_of_this_machine_is_read():
    here = memory_here()
    assert 0.1 < here.ram < 100_000 and here.gpu >= 0


def test_the_page_about_models_holds_the_rows_of_the_table() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    for row, line in zip(load_table()["row"], rows, strict=True):
        assert f"`{row['start']}` |" in line and line.startswith(f"| {row['gib'] or 'none'}")
