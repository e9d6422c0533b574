"""The streaming client against a loopback server that answers and fails like the real ones."""

import socket
import subprocess
import sys
import threading
import time
import traceback

import pytest
from fake_server import OVERFLOWS, FakeServer, until

from agent.models import errors
from agent.models.chat import ChatModel, Retry
from agent.models.profile import Profile, load_profile
from agent.models.stream import Timeouts

ASK = [{"role": "user", "content": "print one"}]
CODE = "I print.\n<code>\nprint(1)\n</code>"
KEY = "planted-key-7f3a91c2"
FAST = Retry(times=3, first=0.01, cap=2, loading=5)


def model_for(server: FakeServer, **options) -> ChatModel:
    options = {"kind": server.kind, "window": server.window, "retry": FAST, **options}
    return ChatModel(server.url, server.models[0], **options)


def listen(model: ChatModel, **options):
    heard = {"think": "", "text": ""}

    def on_delta(kind: str, piece: str) -> None:
        heard[kind] += piece

    return model.generate(ASK, on_delta=on_delta, **options), heard


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp", "ollama", "lmstudio"])
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_an_answer_of_every_server_comes_whole_with_thoughts_apart(kind, piece):
    with FakeServer(kind, thinks="Should I <code>bad()</code>? No.", piece=piece) as server:
        reply, heard = listen(model_for(server))
    assert reply.text == heard["text"] == CODE
    assert reply.reasoning == heard["think"] == "Should I <code>bad()</code>? No."
    assert reply.finish == "cut" and reply.usage.estimated and reply.usage.completion > 0


@pytest.mark.parametrize("piece", [1, 2, 5, 1000])
def test_think_tags_in_the_content_are_kept_apart_across_chunk_borders(piece):
    with FakeServer(thinks="hm <b", thoughts="tags", piece=piece) as server:
        reply, heard = listen(model_for(server))
    assert reply.text == heard["text"] == CODE
    assert heard["think"].strip() == reply.reasoning.strip() == "hm <b"


def test_bytes_one_by_one_and_characters_cut_in_half_are_read():
    with FakeServer(answer="<code>\nprint('你好')\n</code>", faults=("bytes",)) as server:
        assert model_for(server).generate(ASK).text == "<code>\nprint('你好')\n</code>"


def test_a_server_that_starts_inside_a_thought_is_found_out_and_its_drafts_are_not_taken():
    with FakeServer(thinks="draft:\n<code>\nbad()\n</code>\nno.", thoughts="lead") as server:
        model = model_for(server)
        for _ in range(2):
            reply, heard = listen(model)
            assert reply.text.strip() == CODE and "bad()" in reply.reasoning
        assert heard["text"] == CODE and "bad()" in heard["think"], "the second answer is shown right from the start"


def test_a_long_thought_cut_at_the_limit_does_not_pass_off_its_draft_as_the_answer():
    class Limited(FakeServer):
        def _deltas(self, body, fault):
            return super()._deltas(body, "")[0], "length"

    with Limited(answer="draft:\n<code>\nbad()\n</code>\nhm, is that right? I " * 3) as server:
        with pytest.raises(errors.Truncated):
            model_for(server).generate(ASK)
    with Limited(answer=f"{CODE}\nObservation: 1\nand so on and") as server:
        assert model_for(server).generate(ASK).text == CODE


def test_reading_stops_at_the_end_of_the_first_block_when_nothing_is_unsure():
    tail = "\nObservation: 1\n" + "<code>\nprint(2)\n</code>\n" * 2000
    with FakeServer("ollama", answer=CODE + tail) as server:
        reply, heard = listen(model_for(server))
    assert reply.text == heard["text"] == CODE and reply.finish == "cut"


def test_the_first_unsure_answer_is_read_to_its_end_but_only_its_first_block_is_kept():
    with FakeServer(answer=CODE + "\nObservation: 1") as server:
        reply, heard = listen(model_for(server))
    assert reply.text == heard["text"] == CODE
    assert not reply.usage.estimated and reply.usage.prompt == 11


def test_a_mark_inside_a_string_does_not_end_the_reading():
    code = '<code>\ns = """\n</code>\n```\n"""\nprint("</code>")\n</code>'
    for piece in (1, 7):
        with FakeServer("ollama", answer=f"{code}\nObservation: x", piece=piece) as server:
            assert model_for(server).generate(ASK).text == code


def test_strings_end_the_reading_before_them():
    with FakeServer(answer="a plan<end_plan> and more") as server:
        assert model_for(server).generate(ASK, stop_at=["<end_plan>"]).text == "a plan"


def test_prose_is_read_to_the_end_with_the_usage_the_server_counted():
    with FakeServer(answer="There are 300 rows.") as server:
        reply = model_for(server).generate(ASK)
    assert (reply.text, reply.finish, reply.usage.estimated) == ("There are 300 rows.", "stop", False)


def test_usage_is_estimated_when_none_comes():
    with FakeServer(answer="There are 300 rows.", usage=False) as server:
        usage = model_for(server).generate(ASK).usage
    assert usage.estimated and usage.prompt > 0 and usage.completion == 5


def test_a_server_that_does_not_stream_is_understood():
    with FakeServer(answer="There are 300 rows.", faults=("no-stream",)) as server:
        reply = model_for(server).generate(ASK)
    assert reply.text == "There are 300 rows." and reply.usage.prompt == 7


def test_a_missing_done_after_a_finish_reason_is_no_fault():
    with FakeServer(answer="Fine.", faults=("no-done",)) as server:
        assert model_for(server).generate(ASK).text == "Fine."


def test_limits_and_sampling_are_always_sent_and_stop_strings_are_not():
    with FakeServer("vllm") as server:
        model_for(server).generate(ASK)
        body = server.requests[0]
    assert body["max_tokens"] > 1000 and body["temperature"] == 0.6 and body["top_p"] == 0.95 and body["top_k"] == 20
    assert body["stream"] and body["stream_options"]["include_usage"] and "stop" not in body


def test_fields_beyond_openai_go_only_to_servers_that_take_them():
    with FakeServer("ollama") as server:
        model_for(server).generate(ASK)
        assert "top_k" not in server.requests[0] and "min_p" not in server.requests[0]


def test_a_profile_decides_about_stops_and_thinking(tmp_path):
    profile = Profile(
        "vllm", 8192, send_stops=True, leads=False, extra={"chat_template_kwargs": {"enable_thinking": False}}
    )
    profile.save(tmp_path, "http://x/v1", "m")
    assert load_profile(tmp_path, "http://x/v1", "m") == profile
    with FakeServer(thinks="hm") as server:
        reply = model_for(server, profile=profile).generate(ASK)
        assert server.requests[0]["stop"] == ["</code>"] and not reply.reasoning
    assert reply.text == "I print.\n<code>\nprint(1)\n"


def test_list_contents_are_flattened():
    with FakeServer() as server:
        model_for(server).generate(
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
        )
        assert server.requests[0]["messages"] == [{"role": "user", "content": "a\nb"}]


def test_the_room_for_the_answer_fits_into_the_window():
    with FakeServer(window=4000) as server:
        model_for(server).generate([{"role": "user", "content": "x" * 8000}])
        assert 256 <= server.requests[0]["max_tokens"] < 2000


# faults


@pytest.mark.parametrize("fault", ["429", "429:0.1", "500", "502", "503", "close", "loading"])
def test_a_passing_fault_is_retried_and_told(fault):
    lines = []
    with FakeServer(faults=(fault,)) as server:
        reply = model_for(server, notice=lines.append).generate(ASK)
        assert len(server.requests) == 2
    assert reply.text == CODE and len(lines) == 1 and "Asking again" in lines[0]


def test_retry_after_is_honoured():
    with FakeServer(faults=("429:0.4",)) as server:
        begin = time.monotonic()
        model_for(server).generate(ASK)
        assert time.monotonic() - begin >= 0.4


def test_a_wait_beyond_the_cap_is_not_waited():
    with FakeServer(faults=("429:3600",)) as server, pytest.raises(errors.Busy, match="rate limit"):
        model_for(server).generate(ASK)


@pytest.mark.parametrize("fault", ["429", "500"])
def test_retries_are_bounded(fault):
    with FakeServer(faults=(fault,) * 10) as server:
        with pytest.raises(errors.Busy):
            model_for(server).generate(ASK)
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("cut", errors.CutStream),
        ("length", errors.Truncated),
        ("empty", errors.EmptyAnswer),
        ("garbage", errors.Garbage),
        ("html", errors.Garbage),
        ("text", errors.Garbage),
        ("error", errors.Busy),
        ("401", errors.Refused),
        ("403", errors.Refused),
        ("404", errors.Refused),
    ],
)
def test_each_fault_is_the_error_it_is(fault, kind):
    with FakeServer(faults=(fault,), answer=CODE) as server, pytest.raises(kind) as caught:
        model_for(server).generate(ASK)
    assert "\n" not in str(caught.value) and str(caught.value).endswith((".", "?"))
    assert type(caught.value) is kind


def test_an_answer_of_thoughts_alone_is_empty():
    with (
        FakeServer(answer="", thinks="hm") as server,
        pytest.raises(errors.EmptyAnswer, match="only thoughts") as caught,
    ):
        model_for(server).generate(ASK)
    assert caught.value.reply.reasoning == "hm"


def test_what_came_before_a_cut_is_kept_with_the_error():
    with FakeServer(faults=("cut",)) as server, pytest.raises(errors.CutStream) as caught:
        model_for(server).generate(ASK)
    assert caught.value.reply.text.startswith("I print.") and caught.value.reply.usage.estimated


@pytest.mark.parametrize("name", OVERFLOWS)
def test_overflow_is_recognised_in_the_words_of_every_server(name):
    with FakeServer(faults=(f"overflow:{name}",)) as server, pytest.raises(errors.Overflow) as caught:
        model_for(server, window=None).generate(ASK)
    if name not in ("ollama", "ollama-embed", "lmstudio-keep", "router", "proxy"):
        assert caught.value.window == 4096 and caught.value.prompt in (8000, 9000, 9001)


def test_overflow_inside_a_stream_is_recognised():
    with FakeServer("lmstudio", faults=("error-overflow",)) as server, pytest.raises(errors.Overflow):
        model_for(server).generate(ASK)


def test_too_much_room_for_the_answer_is_made_smaller_and_asked_again():
    with FakeServer(faults=("big-max-tokens",)) as server:
        assert model_for(server).generate(ASK).text == CODE
        assert server.requests[1]["max_tokens"] == 4096 - 1000 - 64


def test_a_field_the_server_refuses_is_left_out_from_then_on():
    with FakeServer(faults=("refuse:top_k", "refuse:stream_options")) as server:
        model = model_for(server)
        assert model.generate(ASK).text == CODE
        model.generate(ASK)
        assert "top_k" not in server.requests[-1] and "stream_options" not in server.requests[-1]


def test_ollama_may_not_cut_a_prompt_silently():
    with FakeServer("ollama", window=4096) as server:
        model = model_for(server, window=None, find_window=lambda: 4096)
        with pytest.raises(errors.Overflow, match="OLLAMA_CONTEXT_LENGTH"):
            model.generate([{"role": "user", "content": "x " * 20_000}])
        with pytest.raises(errors.Overflow):
            model.generate([{"role": "user", "content": "x " * 20_000}])
        assert len(server.requests) == 1, "once the window is known nothing is sent"


def test_tool_calls_become_text_so_that_the_parser_can_ask_for_code():
    from agent.loop.parse import parse
    from agent.models.stream import Seen

    with FakeServer() as server:
        seen = Seen(tool_calls={0: ["inspect", '{"a": 1}']}, finish="tool_calls", done=True)
        reply = model_for(server)._judge(seen, 10, time.monotonic())
    assert parse(reply.text).kind == "repair"


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        model = ChatModel(f"http://127.0.0.1:{free.getsockname()[1]}/v1", "m", retry=FAST)
        with pytest.raises(errors.Unreachable, match="refused"):
            model.generate(ASK)


def test_no_first_byte_in_time():
    with FakeServer(faults=("slow", "slow", "slow")) as server:
        with pytest.raises(errors.Unreachable, match="no answer in"):
            model_for(server, timeouts=Timeouts(first=0.2)).generate(ASK)
        assert len(server.requests) == 2, "a prompt that takes long is asked for once more, not four times"


def test_a_stream_that_stalls_is_a_cut_one():
    with FakeServer(faults=("stall",)) as server, pytest.raises(errors.CutStream, match="no answer in"):
        model_for(server, timeouts=Timeouts(stall=0.2)).generate(ASK)


# cancelling


def cancelled_within(model: ChatModel, ready) -> float:
    """Seconds from the cancel to the end of the call."""
    cancel, ended = threading.Event(), []

    def call() -> None:
        try:
            model.generate(ASK, cancel=cancel)
        except errors.Cancelled:
            ended.append(time.monotonic())

    thread = threading.Thread(target=call)
    thread.start()
    assert until(ready)
    begin = time.monotonic()
    cancel.set()
    thread.join(5)
    assert ended, "it did not end as cancelled"
    return ended[0] - begin


@pytest.mark.parametrize("fault", ["slow", "headers-only", "stall"])
def test_cancel_ends_the_wait_at_once_and_hangs_up(fault):
    with FakeServer(faults=(fault,)) as server:
        assert cancelled_within(model_for(server), server.held.is_set) < 1
        assert server.dropped.wait(2), "the server never saw the connection close"


@pytest.mark.parametrize("fault", ["429:20", "loading"])
def test_cancel_ends_a_pause_between_tries(fault):
    told = threading.Event()
    with FakeServer(faults=(fault,) * 9) as server:
        model = model_for(server, retry=Retry(cap=30), notice=lambda line: told.set())
        assert cancelled_within(model, told.is_set) < 1


def test_cancel_ends_a_connection_that_is_not_answered():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        model = ChatModel(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", "m", timeouts=Timeouts(connect=3))
        begin = time.monotonic()
        assert cancelled_within(model, lambda: time.monotonic() - begin > 0.3) < 1
        for filler in fillers:
            filler.close()


def test_a_call_cancelled_before_it_began_sends_nothing():
    cancel = threading.Event()
    cancel.set()
    with FakeServer() as server:
        with pytest.raises(errors.Cancelled):
            model_for(server).generate(ASK, cancel=cancel)
        assert not server.requests


def test_fifty_calls_at_once_are_not_mixed():
    with FakeServer(answer="There are 300 rows.") as server:
        model = model_for(server)
        texts: list[str] = []
        threads = [threading.Thread(target=lambda: texts.append(model.generate(ASK).text)) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert texts == ["There are 300 rows."] * 50


# keys


@pytest.mark.parametrize(
    "fault",
    [
        "401",
        "403",
        "404",
        "429:99",
        "500",
        "cut",
        "garbage",
        "html",
        "empty",
        "length",
        "close",
        "error",
        "overflow:vllm",
    ],
)
def test_the_key_is_in_no_exception_or_notice(fault):
    lines: list[str] = []
    with FakeServer(faults=(fault,) * 9) as server, pytest.raises(errors.ModelError) as caught:
        model_for(server, api_key=KEY, notice=lines.append).generate(ASK)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    told = "".join(traceback.format_exception(caught.value)) + "".join(lines) + repr(model_for(server, api_key=KEY))
    seen, error = set(), caught.value
    while error and error not in seen:
        seen.add(error)
        told += repr(error) + repr(error.__dict__)
        error = error.__context__ or error.__cause__
    assert KEY not in told


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}é"])
def test_a_key_http_cannot_carry_is_not_quoted(key):
    with FakeServer() as server, pytest.raises(errors.ModelError) as caught:
        model_for(server, api_key=key).generate(ASK)
    assert KEY not in "".join(traceback.format_exception(caught.value))


# cost


TOKEN_BY_TOKEN = """
import json, socket, sys
answer = sys.stdin.read()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = peer.recv(65536)
    while b"print one" not in request:
        request += peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n")
    for at in range(0, len(answer), 4):
        choice = {"index": 0, "delta": {"content": answer[at : at + 4]}, "finish_reason": None}
        event = json.dumps({"id": "chatcmpl-0123456789", "model": "qwen", "choices": [choice]}).encode()
        event = b"data: " + event + b"\\n\\n"
        peer.sendall(b"%x\\r\\n%s\\r\\n" % (len(event), event))
    peer.close()
"""


def test_eight_thousand_deltas_cost_little():
    code = "\n".join(f"value_{n} = compute({n})  # step" for n in range(1000))
    answer = f"Plan.\n<code>\n{code}\n</code>"
    server = subprocess.Popen([sys.executable, "-c", TOKEN_BY_TOKEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        server.stdin.write(answer.encode())
        server.stdin.close()
        model = ChatModel(f"http://127.0.0.1:{int(server.stdout.readline())}/v1", "m", kind="ollama")
        costs = []
        for _ in range(3):  # the machine may be busy: the cheapest run is the cost
            heard: list[str] = []
            before = time.process_time()
            reply = model.generate(ASK, on_delta=lambda kind, piece, heard=heard: heard.append(piece))
            costs.append(time.process_time() - before)
            assert reply.text == "".join(heard) == answer and len(heard) > 8000
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert min(costs) < 0.6, costs
