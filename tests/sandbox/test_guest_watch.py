"""Watching directories in the guest: the polling client, the streaming client, and what must not get lost."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2b.exceptions import (
    AuthenticationException,
    FileNotFoundException,
    InvalidArgumentException,
    NotFoundException,
    RateLimitException,
)
from e2b.exceptions import TimeoutException as SdkTimeout
from e2b.sandbox.filesystem.watch_handle import FilesystemEvent, FilesystemEventType
from e2b.sandbox_sync.filesystem.filesystem import Filesystem
from e2b.sandbox_sync.filesystem.watch_handle import WatchHandle

from agent.sandbox.embedded.guest import watch as watching
from agent.sandbox.embedded.guest.connect import frame
from tests.sandbox.files_guest import Server, async_client, client, plain, served

CREATE, WRITE, REMOVE = FilesystemEventType.CREATE, FilesystemEventType.WRITE, FilesystemEventType.REMOVE
RENAME, CHMOD = FilesystemEventType.RENAME, FilesystemEventType.CHMOD
Told = list[tuple[str, FilesystemEventType]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def files(server: Server) -> Filesystem:
    return client(server.url)


def told(handle: WatchHandle, by: tuple[str, FilesystemEventType]) -> Told:
    """The events up to and with `by`, which ends the story."""
    events: Told = []
    end = time.monotonic() + 10
    while by not in events:
        assert time.monotonic() < end, f"{by} did not come, only {events}"
        events += [(event.name, event.type) for event in handle.get_new_events()]
        time.sleep(0.01)
    return events


def descriptors() -> list[str]:
    """This process' inotify descriptors; the server is a thread of it."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return [link for link in links if "inotify" in link]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not happen within 10 s"
        time.sleep(0.01)


def test_every_kind_of_change_is_told_under_its_name(files: Filesystem, tmp_path: Path) -> None:
    handle = files.watch_dir("")
    path = tmp_path / "ä"
    path.write_text("x")
    assert told(handle, ("ä", WRITE)) == [("ä", CREATE), ("ä", WRITE)]
    path.chmod(0o600)
    assert told(handle, ("ä", CHMOD)) == [("ä", CHMOD)]
    path.rename(tmp_path / "b")
    assert told(handle, ("b", CREATE)) == [("ä", RENAME), ("b", CREATE)]
    (tmp_path / "b").unlink()
    assert told(handle, ("b", REMOVE)) == [("b", REMOVE)]
    (tmp_path / "dir").mkdir()
    assert told(handle, ("dir", CREATE)) == [("dir", CREATE)]
    assert handle.get_new_events() == []


def test_an_upload_is_told_as_the_file_it_becomes(files: Filesystem) -> None:
    handle = files.watch_dir("")
    files.write("a", "1")
    assert told(handle, ("a", WRITE)) == [("a", CREATE), ("a", WRITE)]
    files.write("a", "2" * 1_000_000)
    assert told(handle, ("a", WRITE)) == [("a", WRITE)]


def test_a_failed_upload_is_not_told(files: Filesystem, tmp_path: Path) -> None:
    handle = files.watch_dir("")

    def broken() -> Iterator[bytes]:
        yield b"x" * 1_000_000
        raise RuntimeError("the producer fails")

    with pytest.raises(Exception):  # noqa: B017 which error the client makes of its own producer's is its affair
        files.write("a", broken())
    until(lambda: os.listdir(tmp_path) == [])
    (tmp_path / "end").touch()
    assert {name for name, _ in told(handle, ("end", CREATE))} == {"end"}


def test_without_recursion_deeper_changes_are_not_told(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    handle = files.watch_dir("")
    (tmp_path / "d/deep").touch()
    (tmp_path / "end").touch()
    assert {name for name, _ in told(handle, ("end", CREATE))} == {"end"}


def test_recursion_covers_what_is_there_and_what_comes_later(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "old/deep").mkdir(parents=True)
    handle = files.watch_dir("", recursive=True)
    (tmp_path / "old/deep/a").touch()
    told(handle, ("old/deep/a", CREATE))
    files.make_dir("new/one/two")
    files.write("new/one/two/b", "x")
    events = told(handle, ("new/one/two/b", WRITE))
    for name in ("new", "new/one", "new/one/two", "new/one/two/b"):
        assert events.count((name, CREATE)) == 1
    files.write("new/one/two/b", "y")
    assert told(handle, ("new/one/two/b", WRITE)) == [("new/one/two/b", WRITE)]


def test_no_file_of_a_tree_that_is_unpacked_in_a_rush_is_missed(files: Filesystem, tmp_path: Path) -> None:
    handle = files.watch_dir("", recursive=True)
    names = [f"t{n}/sub/f{m}" for n in range(30) for m in range(5)]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "end").touch()
    events = told(handle, ("end", CREATE))
    for name in names:
        assert events.count((name, CREATE)) == 1, name
        assert (name, WRITE) in events


def test_a_renamed_directory_is_watched_under_its_new_name(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "in/a/b").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    handle = files.watch_dir("in", recursive=True)
    (tmp_path / "in/a").rename(tmp_path / "in/c")
    (tmp_path / "in/c/b/file").touch()
    assert told(handle, ("c/b/file", CREATE)) == [("a", RENAME), ("c", CREATE), ("c/b/file", CREATE)]
    (tmp_path / "in/c").rename(tmp_path / "out/c")
    assert told(handle, ("c", RENAME)) == [("c", RENAME)]
    (tmp_path / "out/c/b/new").touch()
    (tmp_path / "out/c").rename(tmp_path / "in/d")
    (tmp_path / "in/d/b/seen").touch()
    assert set(told(handle, ("d/b/seen", CREATE))) == {
        (name, CREATE) for name in ("d", "d/b", "d/b/new", "d/b/seen", "d/b/file")
    }


def test_entries_come_with_the_events_when_asked(files: Filesystem, tmp_path: Path) -> None:
    handle = files.watch_dir("", include_entry=True)
    files.write("a", "12345")
    files.remove("a")
    (tmp_path / "b").write_text("123")
    events: list[FilesystemEvent] = []
    until(lambda: events.extend(handle.get_new_events()) or ("b", WRITE) in [(e.name, e.type) for e in events])
    last = [event.entry for event in events if (event.name, event.type) == ("b", WRITE)][-1]
    assert (last.name, last.path, last.size) == ("b", str(tmp_path / "b"), 3)
    assert all(event.entry is None for event in events if event.type == REMOVE)


def test_what_cannot_be_watched_says_why(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundException):
        files.watch_dir("none")
    with pytest.raises(InvalidArgumentException, match="Not a directory"):
        files.watch_dir("file")
    with pytest.raises(AuthenticationException):
        files.watch_dir("", user="root")


def test_a_stopped_watcher_is_gone_with_its_descriptor(files: Filesystem) -> None:
    before = len(descriptors())
    handle, other = files.watch_dir(""), files.watch_dir("")
    assert len(descriptors()) == before + 2
    handle.stop()
    assert len(descriptors()) == before + 1
    twin = WatchHandle(other._rpc, other._watcher_id, other._connection_config, other._envd_version)
    other.stop()
    with pytest.raises(NotFoundException):
        twin.get_new_events()


def test_the_watched_directory_may_be_removed(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    handle = files.watch_dir("d", recursive=True)
    (tmp_path / "d/a").touch()
    shutil.rmtree(tmp_path / "d")
    assert told(handle, (".", REMOVE)) == [("a", CREATE), ("a", REMOVE), (".", REMOVE)]
    assert handle.get_new_events() == []
    handle.stop()


def test_a_queue_that_nobody_reads_is_bounded_and_owns_up(
    files: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "QUEUE_LIMIT", 10)
    handle = files.watch_dir("")
    for n in range(50):
        (tmp_path / str(n)).touch()
    until(lambda: len(handle.get_new_events()) == 10)
    with pytest.raises(RateLimitException, match="lost"):
        handle.get_new_events()
    (tmp_path / "after").touch()
    assert told(handle, ("after", CREATE))[-1] == ("after", CREATE)


def test_forgotten_watchers_are_capped(files: Filesystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCHER_LIMIT", 3)
    before = len(descriptors())
    first, second, *_ = [files.watch_dir("") for _ in range(3)]
    assert first.get_new_events() == []
    files.watch_dir("")
    assert len(descriptors()) == before + 3
    assert first.get_new_events() == []
    with pytest.raises(NotFoundException):
        second.get_new_events()


def test_names_that_are_not_utf8_are_told(files: Filesystem, tmp_path: Path) -> None:
    handle = files.watch_dir("", include_entry=True)
    (tmp_path / os.fsdecode(b"caf\xe9")).touch()
    assert told(handle, ("caf\ufffd", CREATE))


# The streaming client


def test_a_stream_tells_and_ends_when_stopped(server: Server, tmp_path: Path) -> None:
    before = len(descriptors())

    async def story() -> None:
        files = async_client(server.url)
        events: asyncio.Queue[FilesystemEvent] = asyncio.Queue()
        ends: list[Exception | None] = []
        handle = await files.watch_dir("", events.put, ends.append, recursive=True, include_entry=True)
        await files.write("a/b", "12345")
        seen: Told = []
        while ("a/b", WRITE) not in seen:
            event = await asyncio.wait_for(events.get(), 10)
            seen.append((event.name, event.type))
        assert seen == [("a", CREATE), ("a/b", CREATE), ("a/b", WRITE)]
        assert event.entry.size == 5
        await handle.stop()
        assert ends == [None]

    asyncio.run(story())
    until(lambda: len(descriptors()) == before)


def test_a_stream_ends_cleanly_with_its_directory(server: Server, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    before = len(descriptors())

    async def story() -> Told:
        events: Told = []
        end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        files = async_client(server.url)
        await files.watch_dir("d", lambda event: events.append((event.name, event.type)), end.set_result)
        await files.remove("d")
        assert await asyncio.wait_for(end, 10) is None
        return events

    assert asyncio.run(story()) == [(".", REMOVE)]
    until(lambda: len(descriptors()) == before)


def test_a_stream_that_cannot_begin_says_why(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def story() -> None:
        files = async_client(server.url)
        with pytest.raises(FileNotFoundException):
            await files.watch_dir("none", print)
        with pytest.raises(InvalidArgumentException):
            await files.watch_dir("file", print)
        with pytest.raises(AuthenticationException):
            await files.watch_dir("", print, user="root")

    asyncio.run(story())


def test_a_stream_ends_at_its_deadline(server: Server) -> None:
    before = len(descriptors())

    async def story() -> Exception | None:
        end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        await async_client(server.url).watch_dir("", print, end.set_result, timeout=1)
        return await asyncio.wait_for(end, 10)

    assert isinstance(asyncio.run(story()), SdkTimeout)
    until(lambda: len(descriptors()) == before)


def test_a_quiet_stream_is_kept_alive(server: Server) -> None:
    headers = {"Content-Type": "application/connect+json", "Keepalive-Ping-Interval": "1", "Connect-Timeout-Ms": "2500"}
    with plain(server.url) as http:
        answer = http.post("/filesystem.Filesystem/WatchDir", headers=headers, content=frame({"path": "."}))
    pings = frame({"keepalive": {}})
    assert answer.content.startswith(frame({"start": {}}) + pings + pings + b"\2")
    assert b"deadline_exceeded" in answer.content


def test_an_overrun_stream_ends_with_an_error(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "QUEUE_LIMIT", 10)

    async def story() -> Exception | None:
        end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        await async_client(server.url).watch_dir("", lambda event: None, end.set_result)
        await asyncio.to_thread(lambda: [(tmp_path / str(n)).touch() for n in range(20_000)])
        return await asyncio.wait_for(end, 20)

    assert isinstance(asyncio.run(story()), RateLimitException)


def test_many_streams_at_once_each_tell_all(server: Server, tmp_path: Path) -> None:
    async def story() -> list[int]:
        files = async_client(server.url)
        counts = [0] * 8
        done = asyncio.Event()

        def counter(index: int) -> Callable[[FilesystemEvent], None]:
            def count(event: FilesystemEvent) -> None:
                counts[index] += event.type == CREATE
                if min(counts) == 50:
                    done.set()

            return count

        handles = [await files.watch_dir("", counter(n)) for n in range(8)]
        threading.Thread(target=lambda: [(tmp_path / str(n)).touch() for n in range(50)]).start()
        await asyncio.wait_for(done.wait(), 10)
        for handle in handles:
            await handle.stop()
        return counts

    assert asyncio.run(story()) == [50] * 8
