"""The guest's /files and filesystem service, as the official clients use them over real HTTP on a real filesystem."""

import asyncio
import errno
import gzip
import io
import json
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from e2b.exceptions import (
    AuthenticationException,
    FileNotFoundException,
    InvalidArgumentException,
    NotEnoughSpaceException,
    SandboxException,
)
from e2b.sandbox.filesystem.filesystem import FileType
from e2b.sandbox_sync.filesystem.filesystem import Filesystem

from agent.sandbox.embedded.guest import filesystem
from tests.sandbox.files_guest import Server, async_client, client, plain, served, served_by_a_process

MB = 1024 * 1024


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def files(server: Server) -> Filesystem:
    return client(server.url)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MB below home."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not happen within 10 s"
        time.sleep(0.01)


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def blocks(count: int) -> Iterator[bytes]:
    block = random.Random(1).randbytes(MB)
    for _ in range(count):
        yield block


# Reading


def test_text_bytes_and_stream_read_what_is_there(files: Filesystem, tmp_path: Path) -> None:
    data = "grüße\n".encode() * 100_000
    (tmp_path / "a.txt").write_bytes(data)
    assert files.read("a.txt") == data.decode()
    assert files.read(str(tmp_path / "a.txt"), format="bytes") == data
    with files.read("~/a.txt", format="stream") as stream:
        assert b"".join(stream) == data
    assert files.read("a.txt", gzip=True) == data.decode()


def test_an_empty_file_and_one_of_unknown_size_are_read(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert files.read("empty", format="bytes") == b""
    assert "MemTotal" in files.read("/proc/meminfo")


def test_a_missing_file_is_not_found_and_a_directory_is_refused(files: Filesystem, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundException, match="none"):
        files.read("none.txt")
    with pytest.raises(InvalidArgumentException, match="directory"):
        files.read(str(tmp_path))
    with pytest.raises(InvalidArgumentException):
        files.read("zero\0byte")


def test_refused_directories_leave_no_descriptor_open(files: Filesystem) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(InvalidArgumentException):
            files.read("/tmp")
    assert len(os.listdir("/proc/self/fd")) < before + 10


@pytest.mark.timeout(20)
def test_a_pipe_or_device_is_refused_and_does_not_hang(files: Filesystem, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("pipe", "/dev/zero"):
        with pytest.raises(InvalidArgumentException, match="regular"):
            files.read(path)
        with pytest.raises(InvalidArgumentException, match="regular"):
            files.write(path, "x")
    assert files.exists("pipe")
    assert files.get_info("pipe").type is None


def test_a_range_of_bytes_can_be_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    with plain(server.url) as http:

        def get(wanted: str) -> tuple[int, bytes]:
            answer = http.get("/files", params={"path": "a"}, headers={"Range": wanted})
            return answer.status_code, answer.content

        assert get("bytes=2-4") == (206, b"234")
        assert get("bytes=7-") == (206, b"789")
        assert get("bytes=-3") == (206, b"789")
        assert get("bytes=5-99") == (206, b"56789")
        assert get("bytes=10-")[0] == 416
        assert get("lines=1-2") == (200, b"0123456789")


def test_a_file_cut_short_while_it_is_read_is_no_success(server: Server, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 32 * MB)
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(b"GET /files?path=big HTTP/1.1\r\nHost: x\r\n\r\n")
        head = link.recv(300)
        assert f"content-length: {32 * MB}".encode() in head.lower()
        received = len(head)
        os.truncate(big, MB)
        while data := link.recv(MB):
            received += len(data)
    assert received < 32 * MB


# Writing


def test_text_and_bytes_are_written_with_their_parents(files: Filesystem, tmp_path: Path) -> None:
    info = files.write("deep/er/a.txt", "grüße")
    assert (info.name, info.type, info.path) == ("a.txt", FileType.FILE, str(tmp_path / "deep/er/a.txt"))
    assert (tmp_path / "deep/er/a.txt").read_text() == "grüße"
    odd = bytes(range(256)) * 1000 + b"\r\n--\r\n"
    files.write("b.bin", odd)
    assert files.read("b.bin", format="bytes") == odd
    files.write("b.bin", b"")
    assert (tmp_path / "b.bin").read_bytes() == b""


def test_streams_are_written_in_every_way_the_client_has(files: Filesystem, tmp_path: Path) -> None:
    files.write("io", io.BytesIO(b"raw" * 100_000))
    files.write("text-io", io.StringIO("ö" * 100_000))
    files.write("chunks", iter([b"one", b"two"]))
    files.write("form-io", io.BytesIO(b"form" * 100_000), use_octet_stream=False)
    files.write("octets", b"octets", use_octet_stream=True)
    files.write("zip", b"zip" * 1_000_000, gzip=True)
    files.write("zip-io", io.BytesIO(b"zip-io" * 1_000_000), gzip=True)
    assert (tmp_path / "io").read_bytes() == b"raw" * 100_000
    assert (tmp_path / "text-io").read_text() == "ö" * 100_000
    assert (tmp_path / "chunks").read_bytes() == b"onetwo"
    assert (tmp_path / "form-io").read_bytes() == b"form" * 100_000
    assert (tmp_path / "octets").read_bytes() == b"octets"
    assert (tmp_path / "zip").read_bytes() == b"zip" * 1_000_000
    assert (tmp_path / "zip-io").read_bytes() == b"zip-io" * 1_000_000


def test_many_files_travel_in_one_form(files: Filesystem, tmp_path: Path) -> None:
    names = [f"dir/{n}.txt" for n in range(40)] + ['quo"te', "back\\slash", "ün ïcødé 🙂", "semi;name=x", "new\nline"]
    names += ["a+b &c=%41?#", " space ", "'single'"]
    infos = files.write_files([{"path": name, "data": name * 1000} for name in names])
    assert [info.path for info in infos] == [str(tmp_path / name) for name in names]
    for name in names:
        assert (tmp_path / name).read_text() == name * 1000
        assert files.read(name) == name * 1000


def test_a_boundary_may_be_cut_anywhere(server: Server, tmp_path: Path) -> None:
    content = b"\r\n--B\r\n--cu\r\n-\r\n--cut-" * 3
    form = b'preamble\r\n--cut-here\r\nContent-Type: x/y\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    form += content + b'\r\n--cut-here\r\nContent-Disposition: form-data; name="other"\r\n\r\nignored'
    form += b"\r\n--cut-here--\r\nepilogue"
    for step in (1, 3, 7, 50):
        parts = (form[at : at + step] for at in range(0, len(form), step))
        with plain(server.url) as http:
            kind = {"Content-Type": 'multipart/form-data; boundary="cut-here"'}
            answer = http.post("/files", params={"path": "cut"}, headers=kind, content=parts)
        assert answer.status_code == 200, answer.text
        assert (tmp_path / "cut").read_bytes() == content
        (tmp_path / "cut").unlink()


def test_broken_forms_are_refused_and_write_nothing(server: Server, tmp_path: Path) -> None:
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'

    def post(body: bytes, kind: str = "multipart/form-data; boundary=b", **query: str) -> int:
        with plain(server.url) as http:
            return http.post("/files", content=body, headers={"Content-Type": kind}, params=query).status_code

    assert post(start + b"no end") == 400
    assert post(b"--b\r\nX: " + b"x" * 100_000) == 400
    assert post(b"--b--\r\n") == 400
    assert post(b"", "multipart/form-data") == 400
    assert post(b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--') == 400
    assert post(b"x", "text/plain", path="f") == 415
    assert post(b"x", "application/octet-stream") == 400
    assert os.listdir(tmp_path) == []


def test_broken_gzip_is_refused_and_members_are_joined(server: Server, tmp_path: Path) -> None:
    def post(body: bytes) -> int:
        kind = {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
        with plain(server.url) as http:
            return http.post("/files", content=body, headers=kind, params={"path": "z"}).status_code

    whole = gzip.compress(random.Random(1).randbytes(MB))
    assert post(b"no gzip at all") == 400
    assert post(whole[:-9]) == 400
    assert post(whole[:5000] + b"?" * 100 + whole[5100:]) == 400
    assert os.listdir(tmp_path) == []
    assert post(gzip.compress(b"one") + gzip.compress(b"two")) == 200
    assert (tmp_path / "z").read_bytes() == b"onetwo"


def test_overwriting_keeps_the_mode_and_goes_through_links(files: Filesystem, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("old")
    script.chmod(0o750)
    (tmp_path / "link").symlink_to("run.sh")
    files.write("link", "new")
    assert script.read_text() == "new"
    assert script.stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "link").is_symlink()


def test_a_directory_is_not_overwritten(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    with pytest.raises(InvalidArgumentException, match="directory"):
        files.write("dir", "x")
    with pytest.raises(InvalidArgumentException):
        files.write("file", "x") and files.write("file/below", "x")
    with pytest.raises(InvalidArgumentException, match="too long"):
        files.write("x" * 300, "x")
    assert sorted(os.listdir(tmp_path)) == ["dir", "file"]


def test_a_read_only_place_is_a_clear_error(files: Filesystem) -> None:
    with pytest.raises(SandboxException, match="403"):
        files.write("/proc/sys/kernel/ostype", "x")


def test_metadata_is_stored_with_the_file_and_shown(files: Filesystem, tmp_path: Path) -> None:
    try:
        os.setxattr(tmp_path, "user.e2b.probe", b"x")
    except OSError:
        pytest.skip("this filesystem keeps no extended attributes")
    info = files.write("a", b"x", metadata={"Source": "hub", "rows": "12"})
    assert info.metadata == {"source": "hub", "rows": "12"}
    assert os.getxattr(tmp_path / "a", "user.e2b.source") == b"hub"
    assert files.get_info("a").metadata == {"source": "hub", "rows": "12"}
    assert files.write("a", b"y").metadata is None
    assert files.get_info("a").metadata is None


def test_metadata_where_the_filesystem_keeps_none_is_no_error(files: Filesystem, small_disk: Path) -> None:
    info = files.write("disk/a", b"x", metadata={"key": "value"})
    assert info.metadata == files.get_info("disk/a").metadata
    assert (small_disk / "a").read_bytes() == b"x"


@pytest.mark.parametrize("octets", [False, True])
def test_a_full_disk_is_reported_and_leaves_nothing(files: Filesystem, small_disk: Path, octets: bool) -> None:
    files.write("disk/kept", b"before")
    with pytest.raises(NotEnoughSpaceException, match="space"):
        files.write("disk/kept", b"x" * 50 * MB, use_octet_stream=octets)
    assert os.listdir(small_disk) == ["kept"]
    assert files.read("disk/kept") == "before"


def test_a_client_that_reads_only_after_sending_hears_why_it_was_refused(server: Server) -> None:
    head = "POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nContent-Type: application/octet-stream\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(head.format(30 * MB).encode())
        link.sendall(bytes(30 * MB))
        assert link.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_gzip_bomb_stops_at_the_disk(files: Filesystem, server: Server, small_disk: Path) -> None:
    with pytest.raises(NotEnoughSpaceException):
        files.write("disk/bomb", bytes(300 * MB), gzip=True)
    assert os.listdir(small_disk) == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("before")
    head = "POST /files?path=kept HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\nContent-Type: {}\r\n\r\n"
    form = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    for kind, start in [("application/octet-stream", b""), ("multipart/form-data; boundary=b", form)]:
        with socket.create_connection(("127.0.0.1", server.port)) as link:
            link.sendall(head.format(kind).encode() + start + b"x" * 500_000)
            until(lambda: len(os.listdir(tmp_path)) == 2)
        until(lambda: os.listdir(tmp_path) == ["kept"])
        assert (tmp_path / "kept").read_text() == "before"


def test_of_two_uploads_to_one_path_one_wins_whole(server: Server, tmp_path: Path) -> None:
    sent = {letter: letter.encode() * 8 * MB for letter in "abcd"}
    threads = [threading.Thread(target=client(server.url).write, args=("same", data)) for data in sent.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "same").read_bytes() in sent.values()
    assert os.listdir(tmp_path) == ["same"]


def test_a_hundred_megabytes_go_both_ways_in_little_memory(tmp_path: Path) -> None:
    total = 100
    with served_by_a_process(tmp_path) as (url, pid):
        files = client(url)
        files.write("warm", b"x")
        files.read("warm")
        before = peak_memory(pid)
        files.write("octets", blocks(total))
        with (tmp_path / "octets").open("rb") as source:
            files.write("form", source, use_octet_stream=False)
        received = 0
        with files.read("form", format="stream") as stream:
            for chunk in stream:
                received += len(chunk)
        assert received == total * MB
        assert (tmp_path / "octets").stat().st_size == total * MB
        assert subprocess.run(["cmp", tmp_path / "octets", tmp_path / "form"]).returncode == 0
        assert peak_memory(pid) - before < 16 * MB


def test_another_user_is_refused(files: Filesystem) -> None:
    with pytest.raises(AuthenticationException, match="root"):
        files.read("a", user="root")
    with pytest.raises(AuthenticationException, match="root"):
        files.write("a", "x" * MB, user="root")
    with pytest.raises(AuthenticationException, match="root"):
        files.list("", user="root")
    assert files.write("a", "x", user="user").name == "a"
    assert files.exists("a", user="user")


# Looking


def test_info_says_what_stat_says(files: Filesystem, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    path.chmod(0o640)
    os.utime(path, ns=(0, 1_700_000_000_123_456_000))
    info = files.get_info("a.txt")
    assert (info.name, info.type, info.path, info.size) == ("a.txt", FileType.FILE, str(path), 5)
    assert (info.mode, info.permissions) == (0o640, "-rw-r-----")
    assert (info.owner, info.group) == (path.owner(), path.group())
    assert info.modified_time == datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123456)
    assert info.symlink_target is None
    folder = files.get_info(str(tmp_path))
    assert (folder.type, folder.permissions[0]) == (FileType.DIR, "d")
    with pytest.raises(FileNotFoundException):
        files.get_info("none")
    assert files.exists("a.txt") and not files.exists("none") and not files.exists("a.txt/below")


def test_links_are_marked_and_dangling_ones_listed(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/in").touch()
    (tmp_path / "to-dir").symlink_to("dir")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    info = files.get_info("to-dir")
    assert (info.type, info.symlink_target) == (FileType.SYMLINK, str(tmp_path / "dir"))
    listed = {entry.path.removeprefix(f"{tmp_path}/") for entry in files.list("", depth=3)}
    assert listed == {"dir", "dir/in", "to-dir", "dangling", "loop"}
    assert [entry.path for entry in files.list("to-dir")] == [str(tmp_path / "to-dir/in")]


def test_a_listing_goes_as_deep_as_asked_in_order(files: Filesystem, tmp_path: Path) -> None:
    for name in ("b/2/x/y", "b/1", "a", "c/z"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b/file").touch()

    def listed(**options: int) -> list[str]:
        return [entry.path.removeprefix(f"{tmp_path}/") for entry in files.list("/" + str(tmp_path), **options)]

    assert listed() == ["a", "b", "c"]
    assert listed(depth=2) == ["a", "b", "b/1", "b/2", "b/file", "c", "c/z"]
    assert listed(depth=50) == ["a", "b", "b/1", "b/2", "b/2/x", "b/2/x/y", "b/file", "c", "c/z"]


def test_what_cannot_be_listed_says_why(files: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgumentException, match="Not a directory"):
        files.list("file")
    with pytest.raises(FileNotFoundException):
        files.list("none")
    monkeypatch.setattr(filesystem, "LISTING_LIMIT", 3)
    for n in range(4):
        (tmp_path / str(n)).touch()
    with pytest.raises(InvalidArgumentException, match="Over 3"):
        files.list("")


def test_names_that_are_not_utf8_and_odd_times_do_not_break_a_listing(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).touch()
    (tmp_path / "später\n☕").touch()
    os.utime(tmp_path / "später\n☕", (0, -(10**11)))
    assert {entry.name for entry in files.list("")} == {"caf\ufffd", "später\n☕"}


def test_a_hostile_message_is_an_error_of_the_client(server: Server) -> None:
    with plain(server.url) as http:
        for message in ({"path": 1}, {"path": "a\0b"}, {"path": "\ud800"}, {"path": "x" * 5000}, {"depth": "x"}, [1]):
            headers = {"Content-Type": "application/json"}
            content = json.dumps(message)
            answer = http.post("/filesystem.Filesystem/ListDir", headers=headers, content=content)
            assert answer.status_code == 400, message
            assert answer.json()["code"] == "invalid_argument"


# Changing


def test_make_dir_makes_parents_and_tells_what_was_there(files: Filesystem, tmp_path: Path) -> None:
    assert files.make_dir("a/b/c") is True
    assert (tmp_path / "a/b/c").is_dir()
    assert files.make_dir("a/b") is False
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(InvalidArgumentException):
            files.make_dir(path)


def test_rename_makes_parents_and_replaces_files(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    info = files.rename("a", "new/b")
    assert (info.name, info.path) == ("b", str(tmp_path / "new/b"))
    (tmp_path / "c").write_text("c")
    files.rename("c", "new/b")
    assert (tmp_path / "new/b").read_text() == "c"
    files.rename("new", "moved")
    assert (tmp_path / "moved/b").exists() and not (tmp_path / "new").exists()
    with pytest.raises(FileNotFoundException):
        files.rename("none", "made/for/nothing")
    assert not (tmp_path / "made").exists()
    with pytest.raises(InvalidArgumentException):
        files.rename("moved", "moved/into/itself")


def test_rename_crosses_filesystems(files: Filesystem, tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/a").write_text("a")
    (tmp_path / "tree/link").symlink_to("/etc/passwd")
    (tmp_path / "alone").write_text("alone")
    files.rename("tree", "disk/tree")
    files.rename("alone", "disk/alone")
    assert (small_disk / "tree/sub/a").read_text() == "a"
    assert os.readlink(small_disk / "tree/link") == "/etc/passwd"
    assert (small_disk / "alone").read_text() == "alone"
    assert os.listdir(tmp_path) == ["disk"]


def test_a_move_that_does_not_fit_leaves_all_as_it_was(files: Filesystem, tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/big").write_bytes(b"x" * 8 * MB)
    for source in ("tree", "tree/big"):
        with pytest.raises(SandboxException, match=os.strerror(errno.ENOSPC)):
            files.rename(source, "disk/there")
    assert (tmp_path / "tree/big").stat().st_size == 8 * MB
    assert os.listdir(small_disk) == []


def test_remove_takes_trees_and_links_but_not_what_links_point_to(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/link").symlink_to("../kept")
    (tmp_path / "link").symlink_to("kept")
    files.remove("tree")
    files.remove("link")
    files.remove("never-was")
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]


def test_home_itself_is_not_removed(files: Filesystem, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for path in ("", str(tmp_path), str(tmp_path.parent), "/"):
        with pytest.raises(InvalidArgumentException, match="home"):
            files.remove(path)
    assert (tmp_path / "a").exists()


def test_the_async_client_does_the_same(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        files = async_client(server.url)
        await files.write("d/a", "text")
        await files.write("z", b"zip" * 1000, gzip=True)

        async def chunks():
            for _ in range(10):
                yield b"x" * 100_000

        await files.write("s", chunks())
        assert await files.read("d/a") == "text"
        async with await files.read("s", format="stream") as stream:
            assert sum([len(chunk) async for chunk in stream]) == 1_000_000
        assert [entry.name for entry in await files.list("")] == ["d", "s", "z"]
        await files.rename("d/a", "d/b")
        await files.remove("s")
        assert await files.exists("d/b") and not await files.exists("s")

    asyncio.run(story())
    assert (tmp_path / "z").read_bytes() == b"zip" * 1000
