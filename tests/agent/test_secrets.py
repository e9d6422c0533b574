"""Planted secrets are found nowhere: not where the model reads, not in the sandbox, not on the disk, not in a log."""

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.errors import UserError

from .conftest import Talking
from .scripted_server import Fault, code
from .talking import Talk

# In the shapes of the real ones, so that both nets of the redactor are tried; nobody's.
HF = "hf_PlantedPlantedPlantedPlanted0123456789"
MODEL = "planted-model-key-9f3c7a51"
E2B = "e2b_" + "c0ffee" * 7
ELSEWHERE = "ghp_" + "A1b2C3d4" * 5  # registered nowhere: known by its shape alone
SECRETS = {"hf": HF, "model": MODEL, "e2b": E2B, "elsewhere": ELSEWHERE}

LOOK = """
import glob, os
seen = [repr(dict(os.environ))]
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try:
        seen.append(open(path, errors="replace").read())
    except OSError as error:
        pass
for top in ("/home", "/tmp", "/run", "/etc", "/root", "/var"):
    for folder, inner, names in os.walk(top):
        inner[:] = [name for name in inner if name not in (".venv", "share", "lib")]
        for path in [os.path.join(folder, name) for name in names if name != "notes.txt"]:
            try:
                seen.append(open(path, errors="replace").read(200_000) if os.path.isfile(path) else path)
            except OSError:
                pass
text = "\\n".join(seen)
print("looked at", len(seen), "places;", "found" if any(part in text for part in PARTS) else "nothing found")
"""


def spellings(secret: str) -> list[bytes]:
    return [form.encode() for form in (secret, quote(secret, safe=""), secret.encode().hex())] + [
        base64.b64encode(secret.encode())[:-4]
    ]


def assert_clean(where: str, data: bytes) -> None:
    for name, secret in SECRETS.items():
        for form in spellings(secret):
            assert form not in data, f"the {name} secret is in {where}"


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Everything that is logged or printed while the test runs is looked at in the end."""
    caplog.set_level(logging.DEBUG)
    yield
    out, err = capfd.readouterr()
    assert_clean("stdout", out.encode())
    assert_clean("stderr", err.encode())
    assert_clean("the log", caplog.text.encode())


@pytest.fixture
def told(talk_alone: Talking, monkeypatch: pytest.MonkeyPatch, watched: None, tmp_path: Path) -> Iterator[Talk]:
    """A session in which every place that could leak one was used."""
    monkeypatch.setenv("HF_TOKEN", HF)
    monkeypatch.setenv("E2B_API_KEY", E2B)
    monkeypatch.setenv("MODELSMITH_MODEL_KEY", MODEL)
    data = tmp_path / "notes.txt"
    data.write_text(f"my token: {ELSEWHERE}\n")
    halves = [[secret[:11], secret[11:]] for secret in SECRETS.values()]
    parts = f"PARTS = [a + b for a, b in {halves}]"  # what the model wrote must not be what is found
    steps = [
        code("print(tell_secret()); print(tell_secret()['raw'])"),
        code(f"{parts}{LOOK}"),
        code(f"a, b = {halves[3]}\nprint(a + b)\nimport sys\nfor c in a + b: print(c, end='', flush=True)\nprint()"),
        code("refuse(open('notes.txt').read())"),
        code(f"a, b = {halves[3]}\nraise ValueError(a + b)"),
        code("show(tell_secret())"),
        code(f"a, b = {halves[3]}\nmirror(a + b)"),
        Fault("500"),
        code(f"# {ELSEWHERE}\nprint('long', open('notes.txt').read() * 2000)"),
        Fault("length", f"thinking of {ELSEWHERE}"),
        code("final_answer({**tell_secret(), 'note': open('notes.txt').read()})"),
    ]
    talking = talk_alone(steps, mode="yes", cwd=tmp_path)
    outcome = talking.run(f"Use the token {ELSEWHERE} and {HF}.", [data])
    assert outcome.state == "succeeded", outcome
    yield talking


def test_the_model_never_reads_one(told: Talk) -> None:
    assert_clean("what the model read", b"\n".join(told.server.bodies))
    assert "nothing found" in told.text("output") and int(told.text("output").split("looked at ")[1].split()[0]) > 3


def test_only_the_model_s_key_goes_to_the_model_and_only_as_its_key(told: Talk) -> None:
    for headers in told.server.headers:
        assert headers.pop("authorization", headers.pop("Authorization", "")) == f"Bearer {MODEL}"
        assert_clean("a header", repr(headers).encode())
    assert_clean("an address", repr(told.server.paths).encode())


def test_nothing_below_the_home_folder_holds_one(told: Talk) -> None:
    files = [path for path in told.settings.home.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"sessions.db", "sessions.db-wal", "server.log"} <= names and told.events("artifact")
    for path in files:
        if "sandboxes" in path.parts and path.suffix not in (".log", ".json"):
            continue  # the disk of a sandbox, looked at from inside above
        assert_clean(str(path), path.read_bytes())


def test_exports_and_everything_an_observer_reads_hold_none(told: Talk) -> None:
    assert_clean("the markdown", told.store.export_markdown(told.session.id).encode())
    assert_clean("the lines", told.store.export_jsonl(told.session.id).encode())
    assert_clean("the title", repr(told.store.session(told.session.id)).encode())
    assert_clean("the search", repr(told.store.search("token")).encode())
    assert_clean("the settings", repr(told.settings).encode())
    assert_clean("the session", repr(vars(told.session)).encode())


def test_the_sandbox_server_has_none_in_its_environment(told: Talk) -> None:
    import json

    pid = json.loads((told.settings.home / "sandbox" / "server.json").read_text())["pid"]
    seen = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    assert_clean("the server's environment", seen)


def test_after_a_resume_it_is_the_same(told: Talk) -> None:
    told.server.answers = [code("print(tell_secret())"), "Done."]
    again = told.resumed()
    again.run("Once more.")
    assert_clean("what the model read", b"\n".join(told.server.bodies))
    again.session.executor.cleanup()


@pytest.mark.parametrize("kind", ["401", "500", "garbage"])
def test_no_error_text_holds_one(talk: Talking, watched: None, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("MODELSMITH_MODEL_KEY", MODEL)
    monkeypatch.setenv("HF_TOKEN", HF)
    talking = talk([Fault(kind)] * 5)
    outcome = talking.run()
    assert outcome.state == "failed"
    assert_clean("the reason", outcome.reason.encode())


def test_a_model_that_cannot_be_had_is_told_without_the_key(
    shared_home: Path, watched: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.models.resolve import resolve

    with pytest.raises(UserError) as caught:
        resolve("http://127.0.0.1:9/v1", api_key=MODEL, hf_token=HF)
    assert_clean("the error", f"{caught.value!r} {caught.value.__context__!r}".encode())
