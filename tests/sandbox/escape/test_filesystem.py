"""The system, the python environment and the host's devices cannot be written, and no binary gives other rights."""

import os
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox

from .attack import PLAIN, ROOT, Jailed, held_only_inside, inside, outside

CREATE = """
path = os.path.join(sys.argv[1], "escape-" + str(os.getpid()))
os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
os.unlink(path)
"""
OPEN_TO_WRITE = "os.close(os.open(sys.argv[1], os.O_WRONLY))"
SETUID = """
import subprocess, time
process = subprocess.Popen([sys.argv[1], *sys.argv[2:]], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=-3)
end, uids = time.monotonic() + 2, set()
while process.poll() is None and time.monotonic() < end and "0" not in uids:
    with open(f"/proc/{process.pid}/status") as status:
        uids |= set(next(line for line in status if line.startswith("Uid:")).split()[2:3])
process.kill()
assert "0" in uids, uids
"""


@pytest.mark.parametrize(
    "folder",
    ["/", "/usr", "/usr/bin", "/usr/local", "/etc", "/etc/ssl", "/opt", "/root", "/home", "/dev", "/lib", "/var"],
)
def test_no_file_can_be_made_outside_the_sandboxs_own_folders(jailed: Jailed, folder: str) -> None:
    held_only_inside(jailed, CREATE, folder, control=ROOT)


@pytest.mark.parametrize("kind", ["venv", "guest", "usr"])
def test_a_file_that_anyone_may_write_cannot_be_written_through_the_bind(jailed: Jailed, kind: str) -> None:
    if kind not in jailed.planted:
        pytest.skip("only root can plant a file there")
    path = jailed.planted[kind]
    seen = path if kind != "guest" else f"/opt/sandbox/guest/__pycache__/{Path(path).name}"
    code = "os.close(os.open(next(path for path in sys.argv[1:] if os.path.exists(path)), os.O_WRONLY))"
    said = held_only_inside(jailed, code, seen, path, control=PLAIN if jailed.is_root else None)
    assert "Read-only" in said


def test_a_shared_folder_is_read_only_unless_said_otherwise(jailed: Jailed) -> None:
    code = "os.close(os.open(next(path for path in sys.argv[1:] if os.path.exists(path)), os.O_WRONLY))"
    said = held_only_inside(jailed, code, "/mnt/share/data", jailed.planted["shared"])
    assert "Read-only" in said or jailed.is_root


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sysrq-trigger",
        "/proc/1/oom_score_adj",
        "/sys/fs/cgroup/cgroup.procs",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/vda",
        "/dev/sda",
        "/dev/loop-control",
        "/dev/fuse",
        "/dev/net/tun",
    ],
)
def test_no_knob_or_device_of_the_kernel_opens_for_writing(jailed: Jailed, path: str) -> None:
    if path == "/proc/1/oom_score_adj":  # inside, the first process is the sandbox's own: it may raise, not lower it
        code = "score = open(sys.argv[1], 'r+'); score.write(str(int(score.read()) - 1)); score.flush()"
        said = inside(jailed.box, code, path)
        assert said.startswith("held"), said
        assert outside(code.replace("- 1", "- 0"), "/proc/self/oom_score_adj", user=os.geteuid()) == "escaped"
        return
    held_only_inside(jailed, OPEN_TO_WRITE, path, control=ROOT, may_lack=True)


@pytest.mark.parametrize("device", ["null", "memory", "disk"])
def test_no_device_node_can_be_made(jailed: Jailed, device: str) -> None:
    numbers = {"null": (0o020666, 1, 3), "memory": (0o020666, 1, 1), "disk": (0o060666, 253, 0)}[device]
    code = """
path = f"/tmp/escape-{os.getpid()}"
os.mknod(path, int(sys.argv[1]), os.makedev(int(sys.argv[2]), int(sys.argv[3])))
os.unlink(path)
"""
    held_only_inside(jailed, code, *numbers, control=ROOT)


def test_a_setuid_binary_of_the_system_gives_no_rights(jailed: Jailed) -> None:
    held_only_inside(jailed, SETUID, "/usr/bin/su", control=PLAIN)


def test_a_setuid_program_in_a_shared_folder_gives_no_rights(jailed: Jailed) -> None:
    if "setuid" not in jailed.planted:
        pytest.skip("only root can plant one")
    code = """
import subprocess
path = next(path for path in sys.argv[1:] if os.path.exists(path))
assert subprocess.run([path, "-u"], stdout=subprocess.PIPE).stdout == b"0\\n"
"""
    held_only_inside(jailed, code, "/mnt/share/id", jailed.planted["setuid"], control=PLAIN)


def test_a_setuid_program_made_inside_gives_no_rights(jailed: Jailed) -> None:
    jailed.box.files.write(
        "who.c", '#include <stdio.h>\n#include <unistd.h>\nint main() { printf("%d", geteuid()); }\n'
    )
    made = jailed.box.commands.run("gcc -o who who.c && chmod 6755 who && ./who && stat -c ' %a' who")
    assert made.stdout == "1000 6755\n"  # the bit stays, and raises nobody


def test_a_hard_link_to_a_file_of_the_host_cannot_be_made(jailed: Jailed) -> None:
    code = """
path = os.path.join(sys.argv[1], f"escape-{os.getpid()}")
os.link("/usr/bin/env", path)
os.unlink(path)
"""
    assert inside(jailed.box, code, "/home/user").startswith("held")
    assert inside(jailed.box, code, "/tmp").startswith("held")
    if os.geteuid() == 0:
        assert outside(code, "/usr/local", user=ROOT) == "escaped"


def test_a_file_handle_opens_nothing(jailed: Jailed) -> None:
    code = """
import struct
handle, mount = ctypes.create_string_buffer(struct.pack("II", 128, 0) + bytes(128)), ctypes.c_int()
call("name_to_handle_at", -100, b"/usr/bin/env", handle, ctypes.byref(mount), 0)
os.close(call("open_by_handle_at", os.open("/usr", os.O_RDONLY), handle, 0))
"""
    held_only_inside(jailed, code, control=ROOT, may_lack=True)


def test_chroot_and_the_working_directory_lead_nowhere_out(jailed: Jailed) -> None:
    code = """
above = os.open("/", os.O_RDONLY)
os.chroot("/tmp")
os.fchdir(above)
assert os.path.exists("tmp")
"""
    held_only_inside(jailed, code, control=ROOT)
    climbed = jailed.box.commands.run("cd /; cd ../../../../..; pwd; ls").stdout.split()
    assert climbed[0] == "/" and "boot" not in climbed and "var" not in climbed


def test_what_one_sandbox_wrote_into_the_system_is_not_in_the_next(jailed: Jailed, fresh: Sandbox) -> None:
    fresh.commands.run(
        "echo 'raise SystemExit' > ~/sitecustomize.py; mkdir -p ~/.local/bin; cp ~/sitecustomize.py ~/.local/bin/ls"
    )
    assert not jailed.box.files.exists("/home/user/sitecustomize.py")
    assert jailed.box.commands.run("ls /").exit_code == 0
