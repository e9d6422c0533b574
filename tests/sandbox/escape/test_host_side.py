"""What the host does for a sandbox (files calls, cleaning up) never follows it out of the jail."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from e2b import SandboxException
from e2b_code_interpreter import Sandbox

from .attack import Jailed, outside

READS: dict[str, Callable[[Sandbox, str], object]] = {
    "read": lambda box, path: box.files.read(path),
    "read as bytes": lambda box, path: bytes(box.files.read(path, format="bytes")),
    "read as stream": lambda box, path: b"".join(box.files.read(path, format="stream")),
    "signed url": lambda box, path: urllib.request.urlopen(box.download_url(path), timeout=10).read(),
    "rename": lambda box, path: box.files.read(box.files.rename(path, "/home/user/taken").path),
}
LOOKS: dict[str, Callable[[Sandbox, str], object]] = {
    "list": lambda box, path: box.files.list(os.path.dirname(path) or path)[0],
    "list deep": lambda box, path: box.files.list(os.path.dirname(path) or path, depth=3)[0],
    "watch": lambda box, path: box.files.watch_dir(os.path.dirname(path) or path).get_new_events(),
}
SPELLINGS = [
    "{path}",
    "../../../../../../..{path}",
    "/home/user/../../../..{path}",
    "~/../..{path}",
    "/proc/1/root{path}",
    "/proc/self/root{path}",
    "/proc/self/cwd/../../..{path}",
    "//{path}",
    "link",
    "linked/token",
    "chain/linked/token",
]
REFUSED = (SandboxException, urllib.error.HTTPError, StopIteration, IndexError)


@pytest.fixture(scope="module")
def linked(jailed: Jailed) -> Jailed:
    """Links in the sandbox's home to what is on the host."""
    token = jailed.planted["token"]
    lines = (
        f"ln -sfn {token} link; ln -sfn {os.path.dirname(token)} linked; mkdir -p chain; ln -sfn ../linked chain/linked"
    )
    jailed.box.commands.run(lines)
    assert outside("assert open(sys.argv[1]).read()", token, user=jailed.user) == "escaped"
    return jailed


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_files_call_reads_a_file_of_the_host(linked: Jailed, spelling: str) -> None:
    path = spelling.format(path=linked.planted["token"])
    for name, attack in (READS | LOOKS).items():
        try:
            got = attack(linked.box, path)
        except REFUSED:
            continue
        assert not (name in READS and linked.secret in str(got)), f"{name} gave the secret away"
        assert name not in LOOKS, f"{name} saw the host's folder: {got}"
    assert Path(linked.planted["token"]).read_text() == linked.secret


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_files_call_changes_the_host(linked: Jailed, spelling: str) -> None:
    box, path = linked.box, spelling.format(path=linked.planted["token"])
    attacks: list[Callable[[], object]] = [
        lambda: box.files.write(path, "overwritten"),
        lambda: box.files.write(f"{path}.new", "new"),
        lambda: box.files.write_files([{"path": path, "data": "overwritten"}]),
        lambda: box.files.make_dir(f"{os.path.dirname(path)}/made"),
        lambda: box.files.rename("link", path),
        lambda: box.files.remove(path),
        lambda: box.files.remove(os.path.dirname(path) or path),
    ]
    for attack in attacks:
        try:
            attack()
        except REFUSED:
            pass
    token = Path(linked.planted["token"])
    assert token.read_text() == linked.secret and os.listdir(token.parent) == ["token"]
    box.commands.run(
        f"ln -sfn {token} link; ln -sfn {token.parent} linked; mkdir -p chain; ln -sfn ../linked chain/linked"
    )


def test_a_link_swapped_in_between_gives_nothing_away(linked: Jailed) -> None:
    box, folder = linked.box, os.path.dirname(linked.planted["token"])
    swap = f"""mkdir -p real; echo mine > real/token; ln -sfn {folder} away
while true; do ln -sfn real turn; ln -sfn {folder} turn; done"""
    loop = box.commands.run(swap, background=True, timeout=0)
    seen = set()
    try:
        for _ in range(150):
            try:
                seen.add(box.files.read("turn/token"))
            except SandboxException:
                seen.add("refused")
    finally:
        loop.kill()
    assert linked.secret not in seen and "mine\n" in seen


@pytest.mark.parametrize("path", ["pipe", "/dev/zero", "/dev/tty", "/run/sandbox/proxy.sock", "/home/user"])
def test_only_regular_files_are_read_and_none_holds_the_server_up(jailed: Jailed, path: str) -> None:
    jailed.box.commands.run("test -p pipe || mkfifo pipe")
    started = time.monotonic()
    with pytest.raises(SandboxException):
        jailed.box.files.read(path)
    assert time.monotonic() - started < 5


def test_tidying_up_follows_no_link(jailed: Jailed) -> None:
    """A killed sandbox's folder is removed by the host; the folders its links point to are not."""
    folder = jailed.served.home / "keep"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("kept")
    if os.geteuid() == 0:
        os.chown(folder, jailed.user, jailed.user)
    with Sandbox.create(**jailed.served.options) as box:
        box.commands.run(f"ln -s {folder} one; mkdir two; ln -s {folder} two/three; ln -s / four")
        own = jailed.served.home / "sandbox" / "sandboxes" / box.sandbox_id
        assert own.exists()
    until(lambda: not own.exists())
    assert (folder / "file").read_text() == "kept"


def test_a_tree_made_to_be_kept_is_removed_with_its_sandbox(jailed: Jailed) -> None:
    """Folders closed to their owner, and folders nested deeper than any recursion goes."""
    nest = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    with Sandbox.create(**jailed.served.options) as box:
        own = jailed.served.home / "sandbox" / "sandboxes" / box.sandbox_id
        with suppress(SandboxException):  # where folders are watched, such a tree ends its sandbox
            box.commands.run(f'mkdir closed; echo x > closed/x; chmod 000 closed; python3 -c "{nest}"')
    until(lambda: not own.exists())


def until(done: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
