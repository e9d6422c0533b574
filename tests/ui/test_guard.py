"""What Gradio leaves open is shut, and what belongs to one person stays with that person. One test for each hole."""

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import websockets

from agent.ui import passwords
from agent.ui.guard import Rules
from agent.ui.login import Passwords
from agent.ui.logins import Logins
from agent.ui.people import Header, Person
from tests.agent.conftest import new_home
from tools.context import Context, ToolError

from .serving import Page, live, serving

PEOPLE = {"ann": "ann's secret", "bob": "bob's secret"}


@pytest.fixture(scope="module")
def homes() -> Iterator[Callable[[], Path]]:
    """Home folders of their own, removed at the end."""
    made: list[Path] = []
    yield lambda: made.append(new_home()) or made[-1]
    for home in made:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def alone(homes: Callable[[], Path]) -> Iterator[Page]:
    with serving(homes()) as page:
        yield page


@pytest.fixture(scope="module")
def team(homes: Callable[[], Path]) -> Iterator[Page]:
    home = homes()
    lines = [passwords.line(name, word) for name, word in PEOPLE.items()]
    with serving(home, Passwords(passwords.read(lines), Logins(home))) as page:
        yield page


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest) -> None:
    """No test waits for the wrong tries of another."""
    if "team" in request.fixturenames:
        request.getfixturevalue("team").server.door.patience.failed.clear()


def signed_in(page: Page, name: str) -> httpx.Client:
    browser = page.browser()
    answer = browser.post("/login", data={"name": name, "password": PEOPLE[name]})
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    return browser


# -- what Gradio would answer ----------------------------------------------------------------------------------------

GRADIO = [
    ("GET", "/gradio_api/token"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/app_id"),
    ("GET", "/gradio_api/startup-events"),
    ("GET", "/gradio_api/runs"),
    ("POST", "/gradio_api/call/anything"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data?session_hash=ann"),
    ("GET", "/gradio_api/stream/ann/1/playlist.m3u8"),
    ("GET", "/gradio_api/heartbeat/ann"),
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/gradio_api/cancel"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/redoc"),
    ("GET", "/monitoring"),
    ("GET", "/robots.txt"),
    ("GET", "/login_check"),
    ("GET", "/file=/etc/passwd"),
    ("GET", "/gradio_api/mcp/sse"),
    ("GET", "//etc/passwd"),
    ("GET", "/static/../../../etc/passwd"),
]


@pytest.mark.parametrize("who", ["alone", "team"])
def test_nothing_of_gradio_can_be_called(who: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(who)
    browser = page.client if who == "alone" else signed_in(page, "ann")
    found = {(method, path): browser.request(method, path).status_code for method, path in GRADIO}
    assert set(found.values()) <= {404}, found


def test_the_frame_still_comes(alone: Page) -> None:
    home = alone.client.get("/")
    assert home.status_code == 200
    scripts = re.findall(r'(?:src|href)="\.?(/(?:assets|static)/[^"]+)"', home.text)
    assert scripts and all(alone.client.get(path).status_code == 200 for path in scripts[:5])
    assert alone.client.get("/config").status_code == 200 and alone.client.get("/theme.css").status_code == 200


# -- other sites -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1:1"]
)
def test_a_foreign_origin_is_refused_everywhere(alone: Page, origin: str) -> None:
    id = alone.new()
    for method, path in [
        ("POST", "/x/sessions"),
        ("GET", "/x/sessions"),
        ("DELETE", f"/x/sessions/{id}"),
        ("GET", "/"),
    ]:
        answer = alone.client.request(method, path, headers={"origin": origin})
        assert answer.status_code == 403, (method, path)
    assert alone.client.get("/x/sessions").json()  # it is still there
    assert refused(alone, id, {"origin": origin})


def test_our_own_origin_is_let_in(alone: Page) -> None:
    assert alone.client.post("/x/sessions", headers={"origin": alone.url}).status_code == 200
    assert alone.follow(alone.new(), live, headers={"origin": alone.url})


def refused(page: Page, id: str, headers: dict[str, str]) -> bool:
    """Whether the WebSocket is shut in the viewer's face."""

    async def knock() -> bool:
        address = f"{page.url.replace('http', 'ws')}/x/sessions/{id}/events"
        try:
            async with websockets.connect(address, proxy=None, additional_headers=headers) as socket:
                await socket.recv()
        except websockets.exceptions.InvalidStatus as error:
            return error.response.status_code == 403
        except websockets.exceptions.ConnectionClosed:
            return True
        return False

    return asyncio.run(knock())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""])
def test_a_name_that_is_not_ours_is_refused(alone: Page, host: str) -> None:
    assert alone.client.get("/x/sessions", headers={"host": host}).status_code in (400, 421)
    assert alone.client.get("/", headers={"host": host}).status_code in (400, 421)


def test_a_cross_site_request_without_an_origin_is_refused_and_a_link_is_not(alone: Page) -> None:
    cross = {"sec-fetch-site": "cross-site"}
    assert alone.client.get("/x/sessions", headers=cross | {"sec-fetch-mode": "no-cors"}).status_code == 403
    assert alone.client.get("/", headers=cross | {"sec-fetch-mode": "navigate"}).status_code == 200


def test_a_forwarded_host_is_not_believed(alone: Page) -> None:
    told = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "x-forwarded-for": "1.2.3.4"}
    assert "evil.example" not in alone.client.get("/", headers=told).text
    assert "evil.example" not in alone.client.get("/config", headers=told).text


def test_every_answer_carries_the_headers_of_a_careful_site(alone: Page) -> None:
    for path in ("/", "/x/sessions", "/x/static/app.js", "/nothing", "/config"):
        headers = alone.client.get(path).headers
        policy = headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
        assert (
            "unsafe-eval" not in policy
            and "script-src 'self'" in policy
            and "'unsafe-inline'" not in policy.split(";")[1]
        )
        assert "frame-ancestors 'none'" in policy and "object-src 'none'" in policy and "form-action 'self'" in policy


# -- who is let in ---------------------------------------------------------------------------------------------------


def test_without_signing_in_there_is_the_door_and_nothing_else(team: Page) -> None:
    id = signed_in(team, "ann").post("/x/sessions").json()["id"]
    stranger = team.browser()
    assert stranger.get("/").headers["location"] == "/login"
    for path in ("/config", "/theme.css", "/x/me", "/x/sessions", "/x/runs", "/x/settings", "/x/health", "/x/models"):
        assert stranger.get(path).status_code == 401, path
    for path in ("", "/artifacts", "/artifacts.zip", "/export", "/events/1"):
        assert stranger.get(f"/x/sessions/{id}{path}").status_code in (401, 405), path
    assert stranger.post("/x/sessions").status_code == 401
    assert stranger.post(f"/x/sessions/{id}/tasks", json={"text": "hi"}).status_code == 401
    assert stranger.post(f"/x/sessions/{id}/files", files={"file": ("a.csv", b"1")}).status_code == 401
    assert refused(team, id, {})
    assert stranger.get("/login").status_code == 200 and stranger.get("/x/static/app.js").status_code == 200


def test_a_session_of_another_person_is_as_good_as_none(team: Page) -> None:
    ann, bob = signed_in(team, "ann"), signed_in(team, "bob")
    id = ann.post("/x/sessions").json()["id"]
    team.store.append(id, "output", {"text": "ann's words"})
    assert [row["id"] for row in ann.get("/x/sessions").json()].count(id) == 1
    assert id not in str(bob.get("/x/sessions").json()) and "words" not in str(bob.get("/x/sessions?q=words").json())
    asked = [
        bob.get(f"/x/sessions/{id}/events/1"),
        bob.get(f"/x/sessions/{id}/artifacts"),
        bob.get(f"/x/sessions/{id}/artifacts/1"),
        bob.get(f"/x/sessions/{id}/artifacts.zip"),
        bob.get(f"/x/sessions/{id}/export?format=jsonl"),
        bob.get(f"/x/runs?session={id}"),
        bob.post(f"/x/sessions/{id}/tasks", json={"text": "hi"}),
        bob.post(f"/x/sessions/{id}/tasks", json={"text": "hi", "after": 1}),
        bob.post(f"/x/sessions/{id}/stop"),
        bob.post(f"/x/sessions/{id}/approvals/{'0' * 32}", json={"decision": "approve"}),
        bob.post(f"/x/sessions/{id}/files", files={"file": ("a.csv", b"1")}),
        bob.put(f"/x/sessions/{id}/model", json={"spec": "recipes"}),
        bob.patch(f"/x/sessions/{id}", json={"title": "mine"}),
        bob.delete(f"/x/sessions/{id}"),
    ]
    assert {answer.status_code for answer in asked} == {404}
    cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in bob.cookies.items())}

    async def code() -> int:
        address = f"{team.url.replace('http', 'ws')}/x/sessions/{id}/events"
        async with websockets.connect(address, proxy=None, additional_headers=cookie) as socket:
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await socket.recv()
            return socket.close_code or 0

    assert asyncio.run(code()) == 4404
    assert bob.get(f"/x/sessions/{id[:5]}/events/1").status_code == 404
    assert ann.get(f"/x/sessions/{id[:-1]}/events/1").status_code == 404  # a beginning of a name is no name
    assert ann.get(f"/x/sessions/{id}/events/1").status_code == 200


def test_a_wrong_password_is_told_and_five_of_them_make_guessing_slow(team: Page) -> None:
    browser = team.browser()
    told = [browser.post("/login", data={"name": "ann", "password": "no"}) for _ in range(6)]
    assert [answer.status_code for answer in told] == [401] * 5 + [429]
    assert int(told[-1].headers["retry-after"]) >= 1 and "Wait" in told[-1].text
    assert browser.post("/login", data={"name": "ann", "password": PEOPLE["ann"]}).status_code == 429
    assert browser.get("/x/me").status_code == 401


def test_a_name_nobody_has_is_told_like_a_wrong_password(team: Page) -> None:
    wrong = team.browser().post("/login", data={"name": "ann", "password": "no"})
    none = team.browser().post("/login", data={"name": "<script>", "password": "no"})
    assert wrong.text == none.text and wrong.status_code == none.status_code == 401


def test_the_cookie_is_for_this_site_alone_and_signing_out_ends_it(team: Page) -> None:
    browser = team.browser()
    answer = browser.post("/login", data={"name": "ann", "password": PEOPLE["ann"]})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "secure" not in cookie
    token = browser.cookies["modelsmith"]
    assert browser.get("/x/me").json()["name"] == "ann"
    assert browser.post("/logout").status_code == 303
    thief = team.browser()
    thief.cookies.set("modelsmith", token)
    assert thief.get("/x/me").status_code == 401
    assert (
        browser.post(
            "/login", data={"name": "ann", "password": PEOPLE["ann"]}, headers={"origin": "https://evil.example"}
        ).status_code
        == 403
    )


def test_no_password_and_no_cookie_lies_on_the_disk(team: Page) -> None:
    browser = signed_in(team, "ann")
    files = [path for path in team.server.settings.home.rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() for path in files)
    assert browser.cookies["modelsmith"].encode() not in kept and b"ann's secret" not in kept
    assert (team.server.settings.home / "logins.db").stat().st_mode & 0o077 == 0


def test_forged_cookies_open_nothing(team: Page) -> None:
    for value in ("ann", "null", "x" * 5_000, "eyJ1c2VyIjogImFubiJ9"):
        assert team.browser(cookie=f"modelsmith={value}; access-token=ann").get("/x/me").status_code in (400, 401, 431)


def test_a_login_outlives_the_server_and_ends_with_the_account(tmp_path: Path) -> None:
    logins = Logins(tmp_path)
    token = logins.enter(Person("ann", "ann"))
    old = logins.enter(Person("ann", "ann"), lasts=-1)
    logins.close()
    again = Logins(tmp_path)
    assert again.find(token) == Person("ann", "ann") and again.find(old) is None
    Passwords({"bob": "x"}, again)
    assert again.find(token) is None


# -- behind a proxy --------------------------------------------------------------------------------------------------


def test_only_the_proxy_may_name_a_person(homes: Callable[[], Path]) -> None:
    home = homes()
    rules = Rules(frozenset({"smith.example"}), frozenset({"127.0.0.1"}), "X-Remote-User")
    with serving(home, Header("X-Remote-User"), rules) as page:
        named = {"x-remote-user": "ann", "host": "smith.example", "origin": "https://smith.example"}
        assert page.client.get("/x/me", headers=named).json()["name"] == "ann"
        assert page.client.get("/x/me").status_code == 401
        assert page.client.get("/x/me", headers=[("x-remote-user", "ann"), ("x-remote-user", "bob")]).status_code == 401
    with serving(
        home, Header("X-Remote-User"), Rules(proxies=frozenset({"10.0.0.1"}), user_header="X-Remote-User")
    ) as page:
        assert page.client.get("/x/me", headers={"x-remote-user": "ann"}).status_code == 401


def test_on_https_the_cookie_is_secure(homes: Callable[[], Path]) -> None:
    home = homes()
    door = Passwords(passwords.read([passwords.line("ann", PEOPLE["ann"])]), Logins(home))
    with serving(home, door, Rules(proxies=frozenset({"127.0.0.1"}))) as page:
        told = {"x-forwarded-proto": "https", "x-forwarded-for": "6.6.6.6, 9.9.9.9"}
        answer = page.client.post("/login", data={"name": "ann", "password": PEOPLE["ann"]}, headers=told)
        assert "secure" in answer.headers["set-cookie"].lower()
        page.client.post("/login", data={"name": "x", "password": "y"}, headers=told)
        assert "from 9.9.9.9" in door.patience.failed  # the last hop's word, not what a client wrote before it


# -- what a person of a shared server may see of it ------------------------------------------------------------------


def test_people_are_shown_no_place_and_no_secret_of_the_server(team: Page) -> None:
    ann = signed_in(team, "ann")
    told = ann.get("/x/settings").text
    assert str(team.server.settings.home) not in told
    assert {row["key"] for row in ann.get("/x/settings").json() if row["changeable"]} == {
        "model", "max_usd", "max_minutes", "max_steps",
    }  # fmt: skip
    assert ann.put("/x/settings", json={"offline": True}).status_code == 422
    assert ann.put("/x/settings", json={"home": "/tmp"}).status_code == 422
    assert ann.put("/x/settings", json={"hf_token": "hf_x"}).status_code == 422
    for spec in ("http://169.254.169.254/v1", "transformers//etc", "transformers/gpt2", "http://localhost:1/v1"):
        assert ann.put("/x/settings", json={"model": spec}).status_code == 422, spec


def test_a_setting_of_one_person_is_not_that_of_another(team: Page) -> None:
    ann, bob = signed_in(team, "ann"), signed_in(team, "bob")
    ann.put("/x/settings", json={"max_usd": 3})
    values = [{row["key"]: row.get("value") for row in one.get("/x/settings").json()} for one in (ann, bob)]
    assert values[0]["max_usd"] == 3 and values[1]["max_usd"] is None


@pytest.mark.parametrize("path", ["/etc/passwd", "~/x", "../bob/d.csv", "out", "file:///etc/passwd", "/nonexistent"])
def test_no_tool_of_a_person_reaches_beyond_their_folder(tmp_path: Path, path: str) -> None:
    """Whatever the argument is called and however deep it lies; a way out by a link is one, too."""
    work = tmp_path / "ann"
    work.mkdir()
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "d.csv").write_text("1")
    (work / "out").symlink_to(tmp_path / "bob")
    (work / "own.csv").write_text("1")
    context = Context(home=work, folder=work, confined=True)
    for arguments in ({"path": path}, {"plan": {"data": [path]}}, {path: 1}):
        with pytest.raises(ToolError, match="outside of your folder"):
            context.fence(arguments)
    context.fence({"path": "own.csv", "model": "Qwen/Qwen3-0.6B", "text": "/a\n/b", "wish": "make it better"})
    Context(home=work, folder=work).fence({"path": path})
