"""sessions, models, tools, doctor, run as processes, each with a fresh home."""

import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.cli.run import tell_where
from agent.store import Store
from tests.cli.conftest import PROGRAM
from tests.cli.recorded import TURN, recorded
from tests.conftest import ROOT, Cli
from tests.tools.fake_hub import GOOD, FakeHub

RENTING = ["-c", PROGRAM, "tools", "call", "rent", "hours=2"]


@pytest.fixture
def session(home: Path) -> str:
    with recorded(home, TURN) as (_, session):
        return session


def test_a_session_can_be_listed_found_renamed_and_pinned(home: Path, session: str, cli: Cli) -> None:
    assert cli("sessions", "rename", session[:-1], "Row lengths").returncode == 0
    with recorded(home, [("task", {"text": "something else"})]) as (_, other):
        pass
    assert cli("sessions", "list").stdout.index(other) < cli("sessions", "list").stdout.index(session)
    assert cli("sessions", "pin", session).returncode == 0
    rows = json.loads(cli("sessions", "list", "--json").stdout)
    assert [(row["id"], row["title"], row["pinned"]) for row in rows] == [
        (session, "Row lengths", True),
        (other, "recorded", False),
    ]
    assert [row["id"] for row in json.loads(cli("sessions", "list", "data.csv", "--json").stdout)] == [session]
    found = cli("sessions", "search", "1,234").stdout
    assert found.startswith(session) and "answer" in found
    assert json.loads(cli("sessions", "search", "nowhere", "--json").stdout) == []


def test_a_session_whose_process_is_gone_is_listed_as_lost(home: Path, cli: Cli) -> None:
    with recorded(home, TURN[:3]) as (store, session):
        lease = store.claim(session)
        assert json.loads(cli("sessions", "list", "--json").stdout)[0]["state"] == "running"
        lease.release()
    assert json.loads(cli("sessions", "list", "--json").stdout)[0]["state"] == "lost"


def test_a_session_is_shown_as_it_was_and_as_events(session: str, cli: Cli) -> None:
    shown = cli("sessions", "show", session)
    assert shown.returncode == 0
    assert "output\n  1234\n" in shown.stdout and "There are **1,234** rows." in shown.stdout
    events = [json.loads(line) for line in cli("sessions", "show", session, "--json").stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(TURN) + 1))


def test_export_takes_its_form_from_the_files_name(session: str, cli: Cli, tmp_path: Path) -> None:
    assert cli("sessions", "export", session).stdout.startswith("# recorded\n")
    target = tmp_path / "out.jsonl"
    assert cli("sessions", "export", session, "-o", str(target)).returncode == 0
    assert json.loads(target.read_text().splitlines()[0])["session"]["id"] == session
    answer = cli("sessions", "export", session, "-o", str(tmp_path / "no" / "file.md"))
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1


def test_nothing_is_deleted_unless_somebody_says_yes(home: Path, session: str, cli: Cli) -> None:
    refused = cli("sessions", "delete", session)
    assert refused.returncode == 2 and "--yes" in refused.stderr
    with Store.open(home) as store:
        assert store.session(session)
    picture = home / "artifacts" / session / "plot.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"png")
    assert cli("sessions", "delete", session, "--yes").returncode == 0
    assert not picture.parent.exists()
    assert cli("sessions", "show", session).returncode == 2
    assert cli("sessions", "list").stdout == "There are no sessions here.\n"


def test_a_registered_secret_is_not_exported(home: Path, cli: Cli) -> None:
    with recorded(home, [("task", {"text": "use velvet-otter-92 now"})]) as (_, session):
        pass  # written before anybody knew that it is one
    for form in (["export", session], ["export", session, "--format", "jsonl"]):
        text = cli("sessions", *form, MODELSMITH_MODEL_KEY="velvet-otter-92").stdout
        assert "now" in text and "velvet" not in text


def test_mistakes_on_the_command_line_are_told_before_anything_starts(home: Path, cli: Cli) -> None:
    for arguments, told in (
        (["run", "  "], "The task is empty"),
        (["run", "x", "--file", "/no/such"], "There is no file /no/such"),
        (["run", "x", "--session", "nothing"], "There is no session 'nothing'"),
        (["run", "x", "--max-usd", "-1"], "--max-usd"),
        (["run", "x", "--max-steps", "0"], "--max-steps"),
        (["run", "x", "--yes", "--deny"], "--deny"),
        (["run", "x", "--json", "--quiet"], "--quiet"),
        (["run", "x", "--model", "nonsense"], "names no model"),
        (["chat"], "chat needs a terminal"),
        (["tools", "show", "nothing"], "There is no tool 'nothing'"),
        (["tools", "call", "search_hub", "query"], "'query' is no argument"),
        (["tools", "call", "search_hub", "query=x", "limt=3"], "Did you mean 'limit'"),
    ):
        answer = cli(*arguments)
        assert answer.returncode == 2 and told in answer.stderr, answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_task_can_come_from_stdin_and_the_answer_go_to_a_pipe(sandboxed: Path) -> None:
    command = [sys.executable, "-m", "agent", "run", "-", "--quiet"]
    answer = subprocess.run(
        command, input="run: print(6 * 7)", cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "") and "42" in answer.stdout


def test_what_a_run_could_not_do_is_exit_code_2_with_the_recipes(sandboxed: Path, cli: Cli) -> None:
    answer = cli("run", "write me a poem")
    assert answer.returncode == 2
    assert answer.stdout.count("No language model is connected") == 1


def test_a_file_is_in_the_sandbox(sandboxed: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("plum and owl")
    answer = cli("run", "run: print(open('words.txt').read())", "--file", str(tmp_path / "words.txt"), "--quiet")
    assert answer.returncode == 0 and "plum and owl" in answer.stdout


def test_a_reader_that_leaves_ends_the_run(sandboxed: Path) -> None:
    code = "run: import time\nfor n in range(6000): print(n, flush=True); time.sleep(0.1)"
    run = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", code, "--json"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout and run.stderr
    run.stdout.readline()
    run.stdout.close()
    assert run.wait(timeout=60) == 141
    with Store.open(sandboxed) as store:
        assert store.sessions()[0].state == "cancelled"


def test_tools_are_listed_and_shown(home: Path, cli: Cli) -> None:
    listed = json.loads(cli("tools", "list", "--json").stdout)
    assert {"search_hub", "call_space"} <= {tool["name"] for tool in listed}
    assert all(tool["summary"] and tool["risk"] and tool["signature"].startswith(tool["name"]) for tool in listed)
    shown = cli("tools", "show", "search_hub").stdout
    assert shown.startswith("search_hub(") and "Args:" in shown


def rent(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *RENTING, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_call_by_hand_passes_the_same_gate(home: Path) -> None:
    for flags, code, told in (
        ([], 4, "nobody is there to approve"),
        (["--yes"], 4, "--max-usd"),
        (["--yes", "--max-usd", "3"], 3, "more than the $3.00 left"),
        (["--deny"], 1, "--deny refuses"),
        (["--offline", "--yes", "--max-usd", "9"], 1, "--offline"),
    ):
        answer = rent(*flags)
        assert (answer.returncode, answer.stdout) == (code, ""), flags
        assert told in answer.stderr
    allowed = rent("--yes", "--max-usd", "9", "--json")
    assert allowed.returncode == 0 and json.loads(allowed.stdout)["text"] == "rented for 2 hours"


def test_a_value_that_only_looks_like_a_number_stays_text(home: Path) -> None:
    answer = subprocess.run(
        [sys.executable, *RENTING, "note=123", "--yes", "--max-usd", "9"], cwd=ROOT, capture_output=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr


class Llama(BaseHTTPRequestHandler):
    """As much of a llama.cpp server as listing its model takes."""

    def do_GET(self) -> None:
        body = {
            "/v1/models": {"data": [{"id": "Qwen3.5-4B\x1b[2J"}]},
            "/props": {"default_generation_settings": {"n_ctx": 4096}, "build_info": "b1"},
        }.get(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(json.dumps(body or {}).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_models_tells_what_answers_its_window_and_what_to_mend(home: Path, cli: Cli) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Llama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"127.0.0.1:{server.server_port}"
    try:
        told = cli("models", OLLAMA_HOST=here)  # the one address besides the usual ports that is looked at
        facts = json.loads(cli("models", "--json", OLLAMA_HOST=here).stdout)
    finally:
        server.shutdown()
    assert told.returncode == 0 and "\x1b" not in told.stdout
    assert f"http://{here}/v1" in told.stdout and "window 4,096" in told.stdout and "--ctx-size" in told.stdout
    assert any(here in found["base_url"] for found in facts["servers"])
    assert facts["suggestion"]["model"].startswith("Qwen")


def test_a_model_that_does_not_answer_is_told_and_the_rest_still_shown(home: Path, cli: Cli) -> None:
    answer = cli("models", MODELSMITH_MODEL="http://127.0.0.1:9/v1")
    assert (
        answer.returncode == 0 and "No model server answers at" in answer.stdout and "For this machine" in answer.stdout
    )
    assert cli("models", "check", "http://127.0.0.1:9/v1").returncode == 2
    assert cli("models", "check", "recipes").returncode == 0


def test_doctor_finds_this_machine_in_order(sandboxed: Path, cli: Cli) -> None:
    answer = cli("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(answer.stdout)}
    assert set(found) == {"versions", "packages", "home", "disk", "memory", "gpu", "jail", "sandbox", "model", "token"}
    assert [name for name, finding in found.items() if finding["state"] == "bad"] == [] and answer.returncode == 0
    assert "a cell ran" in found["sandbox"]["text"]
    for name in ("modelsmith", "python", "smolagents", "e2b-code-interpreter"):
        assert re.search(rf"\b{name} \d+\.\d+", found["versions"]["text"])
    assert found["model"]["state"] == "warn" and found["model"]["mend"]


def test_doctor_says_what_is_wrong_and_how_to_mend_it(home: Path, cli: Cli) -> None:
    (home / "config.toml").write_text('model_key = "velvet-otter-92"\n')
    (home / "config.toml").chmod(0o644)
    envs = {"MODELSMITH_MODEL": "ollama/none", "E2B_API_KEY": "k" * 20, "E2B_API_URL": "http://127.0.0.1:9"}
    answer = cli("doctor", "--sandbox", "e2b", **envs)
    assert answer.returncode == 1
    bad = {line.split()[1] for line in answer.stdout.splitlines() if line.startswith("bad")}
    assert bad == {"home", "sandbox", "model"}
    assert f"chmod 600 {home / 'config.toml'}" in answer.stdout and "ollama serve" in answer.stdout
    assert "velvet" not in answer.stdout and "Traceback" not in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("access", "state", "text"),
    [
        ({"role": "write"}, "ok", "role write"),
        ({"role": "read"}, "warn", "repo.write, job.write"),
        ({"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["repo.write"]}]}}, "warn", "job.write"),
        (None, "bad", "the Hub refuses it (401)"),
    ],
)
def test_doctor_asks_the_hub_what_a_token_may_do(home: Path, access: dict | None, state: str, text: str) -> None:
    ask = "from agent.settings import load_settings; from agent.doctor import token; print(token(load_settings()))"
    hub = FakeHub()
    answer = {"name": "ann", "auth": {"accessToken": access}}
    hub.on("GET", "/api/whoami-v2", lambda ask: ask.json(answer) if access else ask.error(401, "no"))
    envs = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": GOOD, "HF_HUB_OFFLINE": "0"}
    told = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, env=envs, capture_output=True, text=True, timeout=60)
    hub.close()
    assert f"state='{state}'" in told.stdout and text in told.stdout, told


def test_doctor_finds_settings_that_cannot_be_read(home: Path, cli: Cli) -> None:
    (home / "config.toml").write_text("sandbox = ")
    answer = cli("doctor")
    assert answer.returncode == 1 and answer.stdout.startswith("bad   settings")


def test_ages_are_told_in_words() -> None:
    from agent.cli.sessions import ago

    now = datetime.datetime.now().timestamp()
    assert [ago(now), ago(now - 61), ago(now - 7300), ago(now - 86400)] == ["just now", "1 minute", "2 hours", "1 day"]


def test_help_of_every_command_imports_no_view(cli: Cli) -> None:
    code = "import sys; from agent.__main__ import build_parser; build_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert "agent.cli.run" in loaded.stdout.split()
    assert not {"rich", "smolagents", "pydantic", "agent.store", "agent.session"} & set(loaded.stdout.split())


def test_a_recipe_that_cannot_go_on_ends_as_failed(sandboxed: Path, cli: Cli) -> None:
    answer = cli("run", "describe nothing.csv", "--quiet")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert (
        answer.stderr.startswith("failed: The recipe cannot go on: FileNotFoundError")
        and "nothing.csv" in answer.stderr
    )


def test_the_commands_of_the_page_on_the_agent_run_and_its_flags_exist(sandboxed: Path, cli: Cli) -> None:
    page = (ROOT / "docs" / "agent.md").read_text()
    [block] = re.findall(r"^```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for line in block.splitlines():
        done = cli(*shlex.split(line)[3:])
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    known = cli("run", "--help").stdout
    assert not [flag for flag in re.findall(r"`(--[a-z-]+)`", page) if flag not in known]


def test_a_python_without_the_dependencies_is_told_in_one_line(home: Path) -> None:
    bare = [sys.executable, "-S", "-m", "agent", "sessions", "list"]
    done = subprocess.run(bare, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "`make setup`" in done.stderr


def test_a_word_too_many_is_told_with_the_name_of_its_command(home: Path, cli: Cli) -> None:
    done = cli("sessions", "resume", "one", "two")
    told = "error: unrecognized arguments: two. `python -m agent sessions resume --help` tells what there is.\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_the_end_of_a_run_tells_the_verdict_and_where_run_and_report_lie(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {"type": "report", "markdown": "# sft\n\nVERDICT: **WIN** (judged by loss)\n", "path": "/w/report.md"}
    job = {"id": "tiny-1", "run": "tiny-1", "state": "succeeded", "detail": "", "progress": 1.0}
    events = [("job", {**job, "state": "running"}), ("job", job), ("answer", {"envelope": report})]
    with recorded(home, events) as (store, session):
        screen = SimpleNamespace(store=store, session=SimpleNamespace(id=session))
        tell_where(screen, SimpleNamespace(home=home))  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [
        "run      tiny-1, succeeded: python -m agent runs show tiny-1",
        "verdict  WIN (judged by loss)",
        "report   /w/report.md",
    ]
