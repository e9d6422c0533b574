"""The page as a Space: `app.py` as its own process, people who come in with their account at a provider on loopback."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.store import Store
from tests.agent.conftest import end_server, new_home
from tests.agent.scripted_server import ScriptedServer, code
from tests.agent.talking import until
from tests.conftest import ROOT

from .oidc import SECRET, Oidc
from .serving import free_port


@dataclass
class Space:
    url: str
    home: Path
    oidc: Oidc
    process: subprocess.Popen
    model: ScriptedServer

    def browser(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def enter(self, name: str, sub: str) -> httpx.Client:
        """A browser in which this account signs in; cookies marked Secure travel on loopback, as browsers do it."""
        self.oidc.account = {"sub": sub, "preferred_username": name}
        browser = self.browser()
        begun = browser.get("/login/huggingface")
        state = begun.headers["set-cookie"].partition(";")[0]
        back = httpx.get(begun.headers["location"], trust_env=False).headers["location"]
        done = browser.get(back, headers={"cookie": state})
        assert done.status_code == 303, done.text
        cookie = done.headers["set-cookie"]
        assert "HttpOnly" in cookie and "Secure" in cookie and "samesite=none" in cookie.lower()
        browser.headers["cookie"] = cookie.partition(";")[0]
        return browser


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    home, port = new_home(), free_port()
    answers = [code("import os; print(sorted(os.environ))"), "done"]
    with Oidc() as oidc, ScriptedServer(lambda messages: answers[len(messages) > 3]) as model:
        told = oidc.environment(f"127.0.0.1:{port}") | {"MODELSMITH_HOME": str(home), "PORT": str(port)}
        told |= {"MODELSMITH_MODEL": model.url, "MODELSMITH_SANDBOX": "embedded", "MODELSMITH_PEOPLE": "ann, bob"}
        told |= {"HF_TOKEN": "hf_" + "s" * 34}  # the Space's own
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], env={**os.environ, **told}, cwd=home, stdout=subprocess.PIPE
        )
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers_at(url) or process.poll() is not None, 60)
        assert process.poll() is None
        yield Space(url, home, oidc, process, model)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    end_server(home)
    shutil.rmtree(home, ignore_errors=True)


def answers_at(url: str) -> bool:
    try:
        return httpx.get(f"{url}/login", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_visitor_sees_the_way_in_and_nothing_else(space: Space) -> None:
    browser = space.browser()
    assert browser.get("/").headers["location"] == "/login" and browser.get("/x/sessions").status_code == 401
    door = browser.get("/login")
    assert "Hugging Face" in door.text
    assert "frame-ancestors https://huggingface.co" in door.headers["content-security-policy"]


def test_two_people_have_sessions_tokens_and_sandboxes_of_their_own(space: Space) -> None:
    ann, bob = space.enter("ann", "1"), space.enter("bob", "2")
    assert ann.get("/x/me").json() | {"notice": ""} == {
        "name": "ann", "signed_in": True, "space": True, "local": False, "can_sign_out": True, "notice": "",
    }  # fmt: skip
    ids = [one.post("/x/sessions").json()["id"] for one in (ann, bob)]
    for browser, id in zip((ann, bob), ids, strict=True):
        assert browser.post(f"/x/sessions/{id}/tasks", json={"text": "go"}).status_code == 202
        until(lambda browser=browser, id=id: state(browser, id) == "succeeded", 60)
    assert [row["id"] for row in ann.get("/x/sessions").json()] == [ids[0]]
    assert bob.get(f"/x/sessions/{ids[0]}/events/1").status_code == 404
    with Store.open(space.home) as store:
        events = {id: list(store.all(id)) for id in ids}
        assert {store.session(id).owner for id in ids} == {"hf:1", "hf:2"}
    boxes = {id: found(events[id], "sandbox") for id in ids}
    assert boxes[ids[0]] != boxes[ids[1]]
    secrets = [SECRET, "hf_" + "s" * 34, *space.oidc.tokens]
    told = str(events) + str(space.model.bodies)
    assert not [one for one in secrets if one in told] and "HF_TOKEN" not in told


def state(browser: httpx.Client, id: str) -> str:
    return next(row["state"] for row in browser.get("/x/sessions").json() if row["id"] == id)


def found(events: list[Any], name: str) -> str:
    return next(one.data["detail"][name] for one in events if name in (one.data.get("detail") or {}))


def test_a_token_is_on_the_server_and_in_no_cookie_or_page(space: Space) -> None:
    ann = space.enter("ann", "1")
    shown = ann.headers["cookie"] + "".join(ann.get(path).text for path in ("/", "/x/me", "/x/settings", "/x/models"))
    assert space.oidc.tokens and not [token for token in space.oidc.tokens if token in shown]
    rows = {row["key"]: row for row in ann.get("/x/settings").json()}
    assert rows["hf_token"]["set"] is True and "value" not in rows["hf_token"]


def test_who_is_not_on_the_list_stays_outside(space: Space) -> None:
    space.oidc.account = {"sub": "9", "preferred_username": "<b>eve"}
    browser = space.browser()
    begun = browser.get("/login/huggingface")
    back = httpx.get(begun.headers["location"], trust_env=False).headers["location"]
    told = browser.get(back, headers={"cookie": begun.headers["set-cookie"].partition(";")[0]})
    assert told.status_code == 403 and "&lt;b&gt;eve" in told.text and "modelsmith=" not in str(told.headers)


def test_a_sign_in_that_another_browser_began_is_refused(space: Space) -> None:
    """Or somebody could be signed in as somebody else without knowing it."""
    begun = space.browser().get("/login/huggingface")
    back = httpx.get(begun.headers["location"], trust_env=False).headers["location"]
    assert space.browser().get(back).status_code == 400
    assert space.browser().get(back, headers={"cookie": "modelsmith-state=x"}).status_code == 400
    assert space.browser().get("/login/callback?code=x&state=").status_code == 400


def test_a_person_on_a_space_reaches_no_file_of_the_server(space: Space) -> None:
    ann = space.enter("ann", "1")
    id = ann.post("/x/sessions").json()["id"]
    secret = space.home / "config.toml"
    secret.write_text("")
    ann.post(f"/x/sessions/{id}/tasks", json={"text": f"look at {secret} and at ../../logins.db"})
    until(lambda: state(ann, id) == "succeeded", 60)
    with Store.open(space.home) as store:
        assert [event.data["files"] for event in store.all(id) if event.type == "task"] == [[]]


def test_a_space_that_cannot_tell_people_apart_does_not_open(tmp_path: Path) -> None:
    told = {"SYSTEM": "spaces", "MODELSMITH_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py")], env={**os.environ, **told}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "hf_oauth: true" in done.stderr


def test_the_metadata_of_the_space_names_what_is_there() -> None:
    import yaml

    _, head, _ = (ROOT / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(head)
    assert (ROOT / told["app_file"]).is_file() and told["sdk"] == "gradio" and told["hf_oauth"] is True
    assert f"gradio=={told['sdk_version']}\n" in (ROOT / "requirements.txt").read_text()
