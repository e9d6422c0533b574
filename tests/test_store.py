"""The log under a session: real files, threads, processes, SIGKILL, a full disk, planted secrets."""

import asyncio
import base64
import json
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.events import FIELDS, TYPES, Coalescer
from agent.redact import Redactor
from agent.store import Claimed, Store, StoreError, database

ROOT = Path(__file__).parent.parent
OUT = {"stream": "stdout", "step": 1}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def store(home):
    with Store.open(home) as opened:
        yield opened


def script(code: str, *args: object) -> subprocess.Popen:
    head = "import sys, time, os\nfrom agent.store import *\nstore = Store.open(sys.argv[1])\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def finish(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


def assert_gapless(store: Store, session: str, count: int) -> None:
    assert [e.seq for e in store.all(session)] == list(range(1, count + 1))
    assert store.session(session).last_seq == count


# sessions and events


def test_what_was_appended_is_read_back_and_numbered_from_one(store):
    session = store.create_session(model="qwen", cwd="/w", owner="ann")
    first = store.append(session.id, "task", {"text": "make a model"})
    rest = store.append_many(session.id, [("code", {"text": "x"}), ("state", {"state": "running"})])
    assert [first, *rest] == store.read(session.id) == list(store.all(session.id))
    assert store.read(session.id, after=1, limit=1) == rest[:1]
    now = store.session(session.id)
    assert (now.title, now.state, now.last_seq, now.owner) == ("make a model", "running", 3, "ann")
    assert store.append_many(session.id, []) == []


def test_files_are_for_the_owner_only(home, store):
    store.append(store.create_session().id, "task", {"text": "x"})
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in home.iterdir()} == {0o600}


def test_what_comes_back_from_append_is_what_is_read_even_for_odd_values(store):
    session = store.create_session().id
    odd = {
        "run": "r",
        "values": {"loss": float("nan"), "max": float("inf"), 3: (1, 2), "half": "\udcff", "nul": "a\0b"},
    }
    event = store.append(session, "metric", odd)
    assert store.read(session) == [event]
    assert event.data["values"] == {"loss": "NaN", "max": "Infinity", "3": [1, 2], "half": "?", "nul": "a\0b"}


def test_what_cannot_be_stored_is_refused_before_anything_happened(store):
    session = store.create_session().id
    with pytest.raises(ValueError):
        store.append(session, "nonsense", {})
    with pytest.raises(TypeError):
        store.append_many(session, [("task", {"text": "x"}), ("task", {"text": object()})])
    with pytest.raises(StoreError) as error:
        store.append(session, "output", {"text": "x" * 17_000_000})
    assert error.value.kind == "large"
    with pytest.raises(StoreError) as error:
        store.append("no-such-session", "task", {"text": "x"})
    assert error.value.kind == "gone"
    assert store.read(session) == []


def test_sessions_are_found_by_prefix_listed_renamed_pinned_and_kept_apart_by_owner(store):
    one, two = store.create_session("first", owner="ann").id, store.create_session("second", owner="bob").id
    assert store.session(one[:-1]).id == one
    with pytest.raises(UserError):
        store.session("zzz")
    with pytest.raises(UserError):
        store.session("")
    with pytest.raises(UserError):
        store.session(one, owner="bob")
    assert [s.id for s in store.sessions()] == [two, one]
    store.pin(one)
    store.rename(one, "  a better\nname ")
    assert [(s.id, s.title, s.pinned) for s in store.sessions()] == [
        (one, "a better name", True),
        (two, "second", False),
    ]
    assert [s.id for s in store.sessions(owner="bob")] == [two]
    assert [s.id for s in store.sessions(limit=1)] == [one]


@pytest.fixture(params=["fts5", "without fts5"])
def any_store(request, home, monkeypatch):
    if request.param == "without fts5":
        monkeypatch.setattr(database, "has_fts5", lambda connection: False)
    with Store.open(home) as opened:
        assert opened._database.fts == (request.param == "fts5")
        yield opened


def test_search_finds_words_in_tasks_answers_code_and_output(any_store):
    store = any_store
    one, two = store.create_session(owner="ann").id, store.create_session("Über die Qualität").id
    store.append(one, "task", {"text": "fine-tune on my-data.jsonl"})
    store.append(one, "code", {"text": 'print("100%_done" * learning_rate)'})
    store.append(one, "thought", {"text": "hidden reasoning"})
    store.append(two, "output", {"text": "loss fal", **OUT})
    store.append(two, "output", {"text": "ling at 模型训练完成 now", **OUT})
    store.append(two, "answer", {"envelope": {"type": "text", "text": "perplexity 12"}})

    def found(query, **more):
        return {s.id for s in store.sessions(search=query, **more)}

    assert found("my-data.jsonl") == {one} and found("fine tune LEARNING_RATE") == {one}
    assert found("falling") == {two}, "a word cut in two by streaming"
    assert found("训练") == {two} and found("perplex") == {two} and found("Qualität") == {two}
    assert found("fine-tune falling") == set() and found("reasoning") == set() and found("") == {one, two}
    assert found("learning", owner="bob") == set()
    for hostile in ('"', "a OR b", "NEAR(", "*", "x'; DROP TABLE events;--", "%", "( ) : ^"):
        found(hostile)
        store.search(hostile)
    hits = store.search("learning_rate")
    assert [(h.session, h.seq, h.type) for h in hits] == [(one, 2, "code")] and "learning_rate" in hits[0].snippet
    assert store.search("learning_rate", owner="bob") == []


def test_a_word_that_never_ends_is_kept_as_fast_as_a_sentence(store):
    session = store.create_session().id

    def spent(text):
        begun = time.process_time()
        store.append(session, "output", {"text": text, **OUT})
        return time.process_time() - begun

    sentence, word = spent("seven words are in this short sentence " * 100_000), spent("x" * 4_000_000)
    assert word < 2 * sentence, (word, sentence)
    store.append(session, "output", {"text": "tail found", **OUT})
    assert store.search("found")


def test_exports_join_the_stream_and_cannot_be_broken_out_of(store):
    session = store.create_session("A *title*").id
    store.append(session, "task", {"text": "do it\n# not a heading"})
    for part in ("print(", "1)"):
        store.append(session, "code", {"text": part, "step": 1})
    store.append(session, "output", {"text": "```\n</details>\n````", **OUT})
    store.append(session, "tool_call", {"id": "1", "tool": "t", "arguments": {"a": "`x`\n"}})
    store.append(session, "answer", {"text": "**done**"})
    store.append(session, "state", {"state": "succeeded", "reason": "answered"})
    text = store.export_markdown(session)
    assert "```python\nprint(1)\n```" in text and "`````text\n```\n</details>\n````\n`````" in text
    assert "> # not a heading" in text and "**done**" in text and "*succeeded*" in text
    lines = [json.loads(line) for line in store.export_jsonl(session).splitlines()]
    assert lines[0]["session"]["id"] == session
    assert lines[1:] == [e.to_dict() for e in store.all(session)]


# many writers


def test_fifty_sessions_in_threads_are_gapless_and_not_mixed(store):
    sessions = [store.create_session().id for _ in range(50)]

    def work(session: str) -> None:
        for n in range(20):
            store.append(session, "output", {"text": f"{session} {n}", **OUT})

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(work, sessions))
    for session in sessions:
        assert_gapless(store, session, 20)
        assert [e.data["text"] for e in store.all(session)] == [f"{session} {n}" for n in range(20)]


def test_processes_and_threads_on_one_session_leave_no_gap_and_no_double(home, store):
    session = store.create_session().id
    code = """
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(300):
            store.append(sys.argv[2], "output", {"text": f"{sys.argv[3]}-{n}"})
    """
    writers = [script(code, home, session, n) for n in range(3)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 3
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for n in range(300):
        store.append(session, "output", {"text": f"here-{n}"})
    [finish(writer) for writer in writers]
    assert_gapless(store, session, 1200)
    texts = [e.data["text"] for e in store.all(session)]
    for who in ("0", "1", "2", "here"):
        assert [t for t in texts if t.startswith(f"{who}-")] == [f"{who}-{n}" for n in range(300)]


def test_several_processes_may_open_a_new_home_at_once(home):
    code = """print(store.create_session().id)"""
    names = {finish(process).strip() for process in [script(code, home) for _ in range(6)]}
    with Store.open(home) as store:
        assert {s.id for s in store.sessions()} == names and len(names) == 6


@pytest.mark.timeout(240)
def test_no_acknowledged_event_is_lost_when_the_writer_is_killed(home, store):
    """30 random moments: after each, every number that was printed is there, and nothing else is torn."""
    session = store.create_session().id
    code = """
        n = 0
        while True:
            n += 1
            kind = ("output", {"text": "x" * (n * 37 % 9000)}) if n % 7 else ("state", {"state": "running"})
            events = store.append_many(sys.argv[2], [kind] * (1 + n % 3))
            os.write(1, f"{events[-1].seq}\\n".encode())
    """
    dice = random.Random(7)
    for _ in range(30):
        writer = script(code, home, session)
        first = writer.stdout.readline()
        time.sleep(dice.uniform(0, 0.08))
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = [int(n) for n in (first + writer.stdout.read()).splitlines(keepends=True) if n.endswith("\n")]
        writer.wait()
        last = store.session(session).last_seq
        assert acknowledged and acknowledged[-1] <= last
        assert_gapless(store, session, last)
    with store._database.read() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


# following


def test_a_follower_sees_appends_of_this_process_at_once_and_ends_when_told(store):
    session = store.create_session().id
    store.append(session, "task", {"text": "old"})
    stop, seen = threading.Event(), []

    def follow() -> None:
        for event in store.follow(session, 0, stop):
            seen.append((event.seq, time.time() - event.at))

    thread = threading.Thread(target=follow)
    thread.start()
    for _ in range(40):
        store.append(session, "output", {"text": "x"})
        time.sleep(0.005)
    stop.set()
    thread.join(2)
    assert not thread.is_alive()
    assert [seq for seq, _ in seen] == list(range(1, 42))
    delays = sorted(delay for _, delay in seen[1:])
    assert delays[len(delays) // 2] < 0.02


def test_a_follower_sees_appends_of_another_process_within_fifty_milliseconds(home, store):
    session = store.create_session().id
    code = """
        for line in sys.stdin:
            store.append(sys.argv[2], "output", {"text": line})
    """
    writer, delays = script(code, home, session), []
    following = store.follow(session)
    for n in range(20):
        writer.stdin.write(f"{n}\n")
        writer.stdin.flush()
        event = next(following)
        delays.append(time.time() - event.at)
        assert event.data["text"] == f"{n}\n" and event.seq == n + 1
    following.close()
    writer.communicate()
    assert sorted(delays)[10] <= 0.05


def test_async_followers_of_many_sessions_get_each_event_once(store):
    sessions = [store.create_session().id for _ in range(20)]

    async def follow(session: str) -> list[int]:
        seen = []
        async for page in store.pages(session):
            seen += [event.seq for event in page]
            if page and page[-1].type == "state":
                return seen
        return seen

    def write() -> None:
        for n in range(30):
            for session in sessions:
                store.append(session, "state" if n == 29 else "output", {"state": "idle"} if n == 29 else {"text": "x"})

    async def main() -> list[list[int]]:
        writing = asyncio.to_thread(write)
        *seen, _ = await asyncio.wait_for(asyncio.gather(*map(follow, sessions), writing), 30)
        return seen

    assert asyncio.run(main()) == [list(range(1, 31))] * 20
    assert not store._keeper._rings, "nobody is left listening"


def test_following_ends_when_the_session_is_deleted_by_another_process(home, store):
    session = store.create_session().id
    seen = threading.Thread(target=lambda: list(store.follow(session)))
    seen.start()
    finish(script("store.delete(sys.argv[2])", home, session))
    seen.join(5)
    assert not seen.is_alive()


# claims and paid acts


def test_a_claimed_session_is_refused_to_others_and_taken_over_from_the_dead(home, store):
    session = store.create_session().id
    holder = script("lease = store.claim(sys.argv[2]); print('mine', flush=True); sys.stdin.read()", home, session)
    assert holder.stdout.readline() == "mine\n"
    assert store.running(session)
    with pytest.raises(Claimed, match=str(holder.pid)):
        store.claim(session)
    with pytest.raises(Claimed):
        store.delete(session)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not store.running(session)
    with store.claim(session) as lease:
        assert lease.held()
        with pytest.raises(Claimed):
            store.claim(session)
    assert not store.running(session) and not lease.held()
    store.claim(session).release()


def test_only_one_of_many_claims_wins(home, store):
    session = store.create_session().id
    code = """
        sys.stdin.readline()
        try:
            lease = store.claim(sys.argv[2]); print("won", flush=True)
        except Claimed:
            print("lost", flush=True)
        sys.stdin.readline()
    """
    racers = [script(code, home, session) for _ in range(5)]

    def all_go() -> None:
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()

    all_go()
    results = [racer.stdout.readline().strip() for racer in racers]
    all_go()
    [finish(racer) for racer in racers]
    assert sorted(results) == ["lost"] * 4 + ["won"]


def test_a_lease_from_another_container_holds_while_its_heart_beats(store):
    session = store.create_session().id
    for age, free in ((1, False), (100, True)):
        with store._database.write() as connection:
            row = (session, "t", "another boot", 1, "1", time.time() - age)
            connection.execute("INSERT OR REPLACE INTO leases VALUES(?, ?, ?, ?, ?, ?)", row)
        assert store.running(session) is not free
    lease = store.claim(session)
    before = time.time()
    lease.beat()
    with store._database.read() as connection:
        assert connection.execute("SELECT beat FROM leases").fetchone()[0] >= before
    lease.release()


def test_a_paid_act_is_done_once_and_its_result_is_what_everybody_gets(home, store):
    slot = store.once("job:1")
    assert slot.state == "new"
    assert store.once("job:1").state == "running"
    slot.finish({"job": 7})
    assert finish(script("s = store.once('job:1'); print(s.state, s.result)", home)) == "done {'job': 7}\n"
    with pytest.raises(StoreError):
        slot.finish({"job": 8})
    with pytest.raises(StoreError):
        store.once("job:1").abandon()


def test_an_act_begun_by_a_process_that_died_is_unknown_until_somebody_looked(home, store):
    code = """
        slot = store.once(sys.argv[2]); print(slot.state, flush=True); sys.stdin.read()
    """
    for key in ("it-happened", "it-did-not"):
        actor = script(code, home, key)
        assert actor.stdout.readline() == "new\n"
        assert store.once(key).state == "running"
        os.kill(actor.pid, signal.SIGKILL)
        actor.wait()
        assert store.once(key).state == "unknown" and store.once(key).state == "unknown"
    store.once("it-happened").finish("job 9")
    store.once("it-did-not").abandon()
    assert store.once("it-happened").result == "job 9" and store.once("it-did-not").state == "new"


def test_an_act_that_raised_is_unknown(store):
    with pytest.raises(RuntimeError), store.once("k") as slot:
        raise RuntimeError("connection lost after the request was sent")
    assert slot.state == "unknown" and store.once("k").state == "unknown"


def test_only_one_thread_gets_to_act(store):
    with ThreadPoolExecutor(16) as pool:
        states = list(pool.map(lambda n: store.once("same").state, range(16)))
    assert sorted(states) == ["new"] + ["running"] * 15


# trouble


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount]).returncode:
        pytest.skip("mounting is not allowed here")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


def test_a_full_disk_is_one_clear_error_and_loses_nothing(small_disk):
    with Store.open(small_disk / "home") as store:
        session = store.create_session().id
        acknowledged = []
        with pytest.raises(StoreError) as error:
            for n in range(10_000):
                acknowledged += store.append_many(session, [("output", {"text": f"{n} " + "x" * 3000})] * 2)
        assert error.value.kind == "full" and "full" in str(error.value)
        assert len(acknowledged) > 10 and list(store.all(session)) == acknowledged
        assert store.session(session).last_seq == len(acknowledged)
        with pytest.raises(StoreError):
            store.append(session, "output", {"text": "y" * 60_000})
        assert list(store.all(session)) == acknowledged
        subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
        assert store.append(session, "state", {"state": "failed"}).seq == len(acknowledged) + 1
        assert_gapless(store, session, len(acknowledged) + 1)


def test_a_read_only_disk_is_said_plainly(small_disk):
    with Store.open(small_disk / "home") as store:
        session = store.create_session().id
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreError) as error:
        with Store.open(small_disk / "home") as store:
            store.append(session, "task", {"text": "x"})
    assert error.value.kind in ("read-only", "disk")


@pytest.mark.parametrize("damage", ["garbage", "cut", "header"])
def test_a_damaged_file_is_refused_with_advice_and_left_as_it_is(home, damage):
    with Store.open(home) as store:
        session = store.create_session().id
        for _ in range(100):
            store.append(session, "output", {"text": "x" * 5000})
    file = home / "sessions.db"
    good = file.read_bytes()
    bad = {"garbage": b"not a database at all" * 400, "cut": good[: len(good) // 2], "header": b"\0" * 100 + good[100:]}
    file.write_bytes(bad[damage])
    with pytest.raises(UserError, match="damaged"):
        Store.open(home)
    assert file.read_bytes() == bad[damage]


def test_a_newer_file_and_a_foreign_one_are_refused_untouched(home, tmp_path):
    Store.open(home).close()
    with sqlite3.connect(home / "sessions.db") as connection:
        connection.execute("INSERT INTO migrations VALUES(99, 0)")
    connection.close()
    with pytest.raises(UserError, match="newer Modelsmith"):
        Store.open(home)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    with sqlite3.connect(foreign / "sessions.db") as connection:
        connection.execute("CREATE TABLE theirs(x)")
    connection.close()
    before = (foreign / "sessions.db").read_bytes()
    with pytest.raises(UserError, match="other program"):
        Store.open(foreign)
    assert (foreign / "sessions.db").read_bytes() == before


def test_a_file_of_an_older_schema_is_brought_up_to_date_and_keeps_its_events(home, monkeypatch):
    with Store.open(home) as store:
        session = store.create_session().id
        store.append(session, "task", {"text": "old"})
    steps = [*database.MIGRATIONS, ["ALTER TABLE sessions ADD COLUMN colour TEXT", "CREATE TABLE more(x)"]]
    monkeypatch.setattr(database, "MIGRATIONS", steps)
    for _ in range(2):
        with Store.open(home) as store:
            assert store.read(session)[0].data == {"text": "old"}
            with store._database.read() as connection:
                assert connection.execute("SELECT max(version), count(*) FROM migrations").fetchone() == (2, 2)


def test_a_forked_child_and_a_closed_store_are_told_so(store):
    session = store.create_session().id
    child = os.fork()
    if child == 0:
        try:
            store.append(session, "task", {"text": "x"})
        except StoreError as error:
            os._exit(7 if error.kind == "gone" else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    store.close()
    with pytest.raises(StoreError):
        store.read(session)


# secrets

TOKEN = "hf_" + "Q7w" * 11 + "e"
PASSWORD = "correct horse battery"
SPELLINGS = [TOKEN, TOKEN[5:], PASSWORD, "correct%20horse", base64.b64encode(PASSWORD.encode()).decode()[4:16]]


def planted(kinds: object, text: str) -> object:
    first = kinds[0] if isinstance(kinds, tuple) else kinds
    return {str: text, dict: {"k": [text], text: 1}, list: [text, {"a": text}], int: 1, bool: True, float: 1.0}[first]


def test_planted_secrets_are_in_no_file_and_in_no_export(home):
    store = Store.open(home, Redactor([PASSWORD]))
    coded = base64.b64encode(PASSWORD.encode()).decode()
    text = f"a {TOKEN} b {PASSWORD} c correct%20horse%20battery d {coded} e postgres://me:{TOKEN}@db/x"
    session = store.create_session(title=text, model=text, cwd=text, owner="ann").id
    for type in sorted(TYPES):
        store.append(session, type, {n.rstrip("?"): planted(kinds, text) for n, kinds in FIELDS[type].items()})
    stream = Coalescer(lambda items: store.append_many(session, items), store.redactor)
    for at in range(0, len(text), 5):
        stream.append("output", {"text": text[at : at + 5], **OUT})
        stream.tick()
    stream.flush()
    store.once(f"key {TOKEN}", session).finish({"result": text})
    store.rename(session, text)
    after = [store.export_markdown(session), store.export_jsonl(session)]
    after += [str(store.sessions()), str(store.search("redacted"))]
    stored = b"".join(f.read_bytes() for f in home.iterdir())
    assert b"[redacted" in stored and len(list(home.iterdir())) == 3, "the write-ahead log was looked at too"
    store.close()
    stored += b"".join(f.read_bytes() for f in home.iterdir())
    for secret in SPELLINGS:
        assert secret.encode() not in stored, secret
        assert not any(secret in text for text in after), secret


def test_a_secret_registered_too_late_is_at_least_kept_out_of_exports(store):
    session = store.create_session().id
    store.append(session, "output", {"text": f"say {PASSWORD}"})
    store.redactor.add(PASSWORD)
    assert PASSWORD not in store.export_jsonl(session) + store.export_markdown(session)


def test_a_deleted_session_leaves_no_trace_in_any_file(home, store):
    keep, gone = store.create_session("keep").id, store.create_session("zebrafish title").id
    for n in range(60):
        store.append(gone, "output", {"text": f"zebrafish{n} " * 300, **OUT})
        store.append(keep, "output", {"text": f"ordinary{n} " * 30, **OUT})
    store.once("k", gone).finish("zebrafish")
    assert store.delete(gone) is True
    store.append(keep, "output", {"text": "after"})
    assert b"zebrafish" not in b"".join(f.read_bytes() for f in home.iterdir())
    assert store.sessions(search="zebrafish") == [] and [s.id for s in store.sessions()] == [keep]
    assert_gapless(store, keep, 61)
    with pytest.raises(StoreError):
        store.append(gone, "task", {"text": "x"})


# speed


def test_two_thousand_appends_a_second_and_more(store, capsys):
    session = store.create_session().id
    batch = [("output", {"text": f"step {n} loss 0.{n} and some more words\n", **OUT}) for n in range(100)]
    start = time.perf_counter()
    for _ in range(40):
        store.append_many(session, batch)
    batched = 4000 / (time.perf_counter() - start)
    single = []
    for _ in range(300):
        start = time.perf_counter()
        store.append(session, *batch[0])
        single.append(time.perf_counter() - start)
    with capsys.disabled():
        print(f" [{batched:,.0f}/s batched, one append {sorted(single)[150] * 1e3:.2f} ms] ", end="")
    assert batched >= 2000
