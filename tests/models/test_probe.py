"""The probe says what is wrong with a server and its profile makes the client work there."""

import pytest
from fake_server import FakeServer

from agent.loop.parse import parse
from agent.models.probe import check, use
from agent.models.profile import load_profile
from agent.models.resolve import resolve

ANSWER = "<code>print(1)</code>"
ASK = [{"role": "user", "content": "x"}]


def probe(server: FakeServer, folder=None):
    choice = resolve(f"{server.url}#{server.models[0]}")
    return check(choice, folder)


def wrong(findings) -> str:
    return "; ".join(f"{item.what} -> {item.mend}" for item in findings if not item.ok)


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp", "ollama", "lmstudio"])
def test_a_server_in_order_has_nothing_wrong(kind, tmp_path):
    with FakeServer(kind, ANSWER) as server:
        findings = probe(server, tmp_path)
        profile = load_profile(tmp_path, server.url, server.models[0])
    assert wrong(findings) == "" and len(findings) >= 3
    assert profile.window == server.window and profile.usage and profile.streams and profile.leads is False
    assert profile.send_stops, "nothing thinks here, so stop strings are safe"


def test_stop_strings_inside_thoughts_are_found_and_not_sent(tmp_path):
    with FakeServer("vllm", ANSWER, thinks="I write <code>x</code> first") as server:
        findings = probe(server, tmp_path)
        choice = resolve(server.url, profiles=tmp_path)
        server.requests.clear()
        assert choice.model.generate(ASK).text == ANSWER
        assert "stop" not in server.requests[0]
    assert "stop strings match inside thoughts" in wrong(findings)


def test_the_small_window_of_a_default_ollama_is_found():
    with FakeServer("ollama", ANSWER, window=4096) as server:
        assert "only 4096 tokens -> restart it with OLLAMA_CONTEXT_LENGTH" in wrong(probe(server))


def test_thoughts_in_the_content_are_found_with_the_flag_that_mends_it():
    with FakeServer("vllm", ANSWER, thinks="hm", thoughts="tags") as server:
        assert "--reasoning-parser qwen3" in wrong(probe(server))


def test_a_server_that_starts_inside_a_thought_is_spoken_to_accordingly(tmp_path):
    with FakeServer("vllm", ANSWER, thinks="draft <code>bad()</code> no", thoughts="lead") as server:
        assert "<think>" in wrong(probe(server, tmp_path))
        heard = []
        reply = resolve(server.url, profiles=tmp_path).model.generate(
            ASK, on_delta=lambda kind, piece: heard.append(kind)
        )
    assert reply.text == ANSWER and reply.finish == "cut" and heard[0] == "think"


def test_a_model_that_only_thinks_gets_its_thoughts_switched_off(tmp_path):
    class OnlyThinks(FakeServer):
        def _deltas(self, body, fault):
            deltas, finish = super()._deltas(body, fault)
            thoughts = [delta for delta in deltas if "content" not in delta]
            return thoughts or deltas, finish

    with OnlyThinks("vllm", ANSWER, thinks="hm " * 20) as server:
        assert "the answer is empty -> thinking is switched off for it" in wrong(probe(server, tmp_path))
        assert resolve(server.url, profiles=tmp_path).model.generate(ASK).text == ANSWER


def test_a_switch_without_effect_is_found():
    with FakeServer("lmstudio", ANSWER, thinks="hm", switch=False) as server:
        assert "switching thoughts off has no effect" in wrong(probe(server))


def test_no_streaming_and_no_usage_are_found():
    with FakeServer("vllm", ANSWER, faults=("no-stream",)) as server:
        assert "does not stream" in wrong(probe(server))
    with FakeServer("vllm", ANSWER, usage=False) as server:
        assert "reports no usage" in wrong(probe(server))


def test_a_refused_call_is_the_first_finding():
    with FakeServer("vllm", ANSWER, faults=("404",)) as server:
        findings = probe(server)
    assert not findings[0].ok and "has no model" in findings[0].what and "python -m agent models" in findings[0].mend


def test_a_profile_can_be_used_at_once(tmp_path):
    with FakeServer("vllm", ANSWER) as server:
        choice = resolve(server.url)
        check(choice, tmp_path)
        used = use(choice, load_profile(tmp_path, server.url, server.models[0]))
        assert parse(used.model.generate(ASK).text).code == "print(1)"
        assert server.requests[-1]["stop"] == ["</code>"]


def test_what_runs_in_this_process_needs_no_check():
    assert check(resolve("recipes").__class__("recipes", "", None, object))[0].ok
