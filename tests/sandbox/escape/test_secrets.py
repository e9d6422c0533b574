"""Nothing of the server, of the host's users or of another sandbox can be read."""

import json
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox

from .attack import ROOT, Jailed, held_only_inside, inside, outside

# The secret comes reversed: an attack must not find it in its own command line.
SEARCH = """
import pathlib
wanted = sys.argv[1][::-1].encode()
def readable():
    for path in pathlib.Path("/proc").glob("[0-9]*/" + sys.argv[2]):
        try:
            yield path.read_bytes()
        except OSError:
            pass
assert any(wanted in text for text in readable())
"""
READ = "assert open(sys.argv[1], 'rb').read(64)"


@pytest.mark.parametrize("file", ["environ", "cmdline"])
def test_no_process_of_the_server_can_be_looked_into(jailed: Jailed, file: str) -> None:
    held_only_inside(jailed, SEARCH, {"environ": jailed.secret, "cmdline": "--tell-fd"}[file][::-1], file)


def test_the_jails_own_command_line_holds_no_key_or_token(jailed: Jailed) -> None:
    told = jailed.box.commands.run("cat /proc/*/cmdline | tr '\\0' '\\n'").stdout
    assert "prlimit" in told  # the command line that built the jail can be read, as root of the host can read it
    secrets = [jailed.served.key, jailed.box.traffic_access_token, jailed.other.traffic_access_token, jailed.secret]
    assert not [secret for secret in secrets if secret and secret in told]


def test_the_first_process_shows_no_environment_of_the_host(jailed: Jailed) -> None:
    held_only_inside(
        jailed, "assert sys.argv[1][::-1] in open(sys.argv[2]).read()", jailed.secret[::-1], environ_of(jailed)
    )
    first = jailed.box.commands.run("tr '\\0' '\\n' < /proc/1/environ | cut -d= -f1 | sort").stdout.split()
    assert set(first) <= {"PATH", "PWD", "_", "SHLVL"}


def environ_of(jailed: Jailed) -> str:
    return f"/proc/{jailed.served.process.pid}/environ"


def test_code_sees_only_an_environment_made_for_it(jailed: Jailed) -> None:
    cell = jailed.box.run_code("import os, json; print(json.dumps(dict(os.environ)))")
    seen = json.loads(cell.logs.stdout[0]) | dict(
        line.split("=", 1) for line in jailed.box.commands.run("env").stdout.splitlines() if "=" in line
    )
    assert not [name for name, value in seen.items() if jailed.secret in value or jailed.served.key in value]
    assert not [name for name in seen if name.startswith(("MODELSMITH", "ESCAPE"))]
    control = Path(environ_of(jailed)).read_bytes()
    assert jailed.secret.encode() in control


@pytest.mark.parametrize("kind", ["hub token", "server.json", "lock", "record of another sandbox", "own record", "log"])
def test_files_of_the_server_cannot_be_read(jailed: Jailed, kind: str) -> None:
    folder = jailed.served.home / "sandbox"
    path = {
        "hub token": jailed.planted["token"],
        "server.json": folder / "server.json",
        "lock": folder / "sandboxes",
        "record of another sandbox": folder / "sandboxes" / jailed.other.sandbox_id / "sandbox.json",
        "own record": folder / "sandboxes" / jailed.box.sandbox_id / "sandbox.json",
        "log": folder / "sandboxes" / jailed.box.sandbox_id / "guest.log",
    }[kind]
    held_only_inside(jailed, "os.listdir(sys.argv[1]) if os.path.isdir(sys.argv[1]) else open(sys.argv[1])", path)


@pytest.mark.parametrize("path", ["/etc/shadow", "/proc/kcore", "/sys/kernel", "/etc/ssl/private/.", "/root/.bashrc"])
def test_files_of_the_host_cannot_be_read(jailed: Jailed, path: str) -> None:
    code = "os.listdir(sys.argv[1]) if os.path.isdir(sys.argv[1]) else open(sys.argv[1])"
    held_only_inside(jailed, code, path, control=ROOT, may_lack=True)


def test_the_kernels_log_cannot_be_read(jailed: Jailed) -> None:
    held_only_inside(jailed, "call('klogctl', 3, ctypes.create_string_buffer(4096), 4096)", control=ROOT, may_lack=True)


def test_the_hosts_name_is_not_told(jailed: Jailed) -> None:
    import socket

    held_only_inside(jailed, "import socket; assert socket.gethostname() == sys.argv[1]", socket.gethostname())


def test_the_cgroups_of_the_host_are_not_named(jailed: Jailed) -> None:
    code = "paths = {line.split(':', 2)[2].strip() for line in open(sys.argv[1])}; assert paths - {'/'}"
    said = inside(jailed.box, code, "/proc/self/cgroup")
    assert said.startswith("held"), jailed.box.commands.run("cat /proc/self/cgroup").stdout
    if jailed.is_root:
        assert outside(code, f"/proc/{bwrap_of(jailed)}/cgroup", user=ROOT) == "escaped"


def bwrap_of(jailed: Jailed) -> int:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            line = (folder / "cmdline").read_bytes()
            if line.startswith(b"bwrap") and jailed.box.sandbox_id.encode() in line:
                return int(folder.name)
    raise AssertionError("the jail of the sandbox is not to be seen")


def test_another_sandboxs_files_cannot_be_read(jailed: Jailed) -> None:
    folder = jailed.served.home / "sandbox" / "sandboxes" / jailed.other.sandbox_id
    disk = folder / "disk.img" if (folder / "disk.img").exists() else folder / "home" / "secret.txt"
    held_only_inside(jailed, READ, disk)
    assert not jailed.box.files.exists("secret.txt")
    # Not below what is bound in: the environment with our own witnesses may lie under /tmp.
    places = "find /home/user /tmp /run /dev/shm -xdev -type f -print0"
    search = f"{places} 2>/dev/null | xargs -0r grep -lsF {jailed.secret[:16]}''{jailed.secret[16:]} || true"
    assert jailed.box.commands.run(search).stdout == ""
    assert "secret.txt" in jailed.other.commands.run(search).stdout


@pytest.mark.parametrize("file", ["cmdline", "environ"])
def test_another_sandboxs_processes_cannot_be_seen(jailed: Jailed, file: str) -> None:
    wanted = {"cmdline": "the-other-one", "environ": f"OTHER_SECRET={jailed.secret}"}[file]
    held_only_inside(jailed, SEARCH, wanted[::-1], file, control=ROOT)


def test_a_commands_only_open_files_are_its_own(jailed: Jailed) -> None:
    shown = jailed.box.commands.run("exec ls -l /proc/self/fd").stdout
    assert "socket:" not in shown.replace("0 -> socket", "").replace("1 -> socket", "").replace("2 -> socket", "")
    assert len(shown.splitlines()) <= 5


def test_another_sandboxs_temporary_files_and_memory_are_not_shared(jailed: Jailed, fresh: Sandbox) -> None:
    for folder in ("/tmp", "/dev/shm", "/run/sandbox"):
        fresh.commands.run(f"echo here > {folder}/left-by-another")
        assert jailed.box.commands.run(f"ls {folder}").stdout.count("left-by-another") == 0
        assert "left-by-another" in fresh.commands.run(f"ls {folder}").stdout
