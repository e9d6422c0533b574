"""Every refused system call is tried twice: without the filter, where the kernel must take it, and with it."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from agent.sandbox.embedded import seccomp
from tests.sandbox.attacks import PLAIN, call, needs_python, needs_seccomp, run

ROOT = Path(__file__).parents[2]
pytestmark = [needs_python, needs_seccomp]

USERS = [pytest.param(None, id="as-we-are"), pytest.param(PLAIN, id="plain-user")]
FORGED = 2**32  # upper half of a register that the kernel does not read
NEWUSER, SIGCHLD = 0x10000000, 17

REFUSED = {
    "AF_VSOCK": ("EAFNOSUPPORT", "socket", 40, 1, 0),
    "AF_VSOCK with a forged upper half": ("EAFNOSUPPORT", "socket", FORGED + 40, 1, 0),
    "AF_PACKET": ("EAFNOSUPPORT", "socket", 17, 3, 0),
    "AF_ALG": ("EAFNOSUPPORT", "socket", 38, 5, 0),
    "AF_ALG with a forged upper half": ("EAFNOSUPPORT", "socket", FORGED + 38, 5, 0),
    "netfilter by netlink": ("EAFNOSUPPORT", "socket", 16, 3, 12),
    "netfilter with a forged family": ("EAFNOSUPPORT", "socket", FORGED + 16, 3, 12),
    "netfilter with a forged protocol": ("EAFNOSUPPORT", "socket", 16, 3, FORGED + 12),
    "keyctl": ("EPERM", "keyctl", 0, -3, 1),
    "add_key": ("EPERM", "add_key", "root", "root", 0, 0, -3),
    "request_key": ("EPERM", "request_key", "root", "root", 0, -3),
    "ptrace": ("EPERM", "ptrace", 0, 0, 0, 0),
    "process_vm_readv": ("EPERM", "process_vm_readv", "self", 0, 0, 0, 0, 0),
    "process_vm_writev": ("EPERM", "process_vm_writev", "self", 0, 0, 0, 0, 0),
    "kcmp": ("EPERM", "kcmp", "self", "self", 1, 0, 0),
    "pidfd_getfd": ("EPERM", "pidfd_getfd", -1, 0, 0),
    "bpf": ("EPERM", "bpf", 0, "zeros", 128),
    "perf_event_open": ("EPERM", "perf_event_open", "zeros", 0, -1, -1, 0),
    "userfaultfd": ("EPERM", "userfaultfd", 1),
    "io_uring_setup": ("EPERM", "425", 1, "zeros"),
    "io_uring_enter": ("EPERM", "426", -1, 0, 0, 0, 0, 0),
    "io_uring_register": ("EPERM", "427", -1, 0, 0, 0),
    "mount": ("EPERM", "mount", "root", "zeros", "root", 0, 0),
    "umount2": ("EPERM", "umount2", "zeros", 0),
    "pivot_root": ("EPERM", "pivot_root", "zeros", "zeros"),
    "chroot": ("EPERM", "chroot", "root"),
    "open_tree": ("EPERM", "428", -100, "root", 0x80000),
    "move_mount": ("EPERM", "429", -1, "zeros", -1, "zeros", 0),
    "fsopen": ("EPERM", "430", "zeros", 0),
    "fsconfig": ("EPERM", "431", -1, 0, 0, 0, 0),
    "fsmount": ("EPERM", "432", -1, 0, 0),
    "fspick": ("EPERM", "433", -100, "zeros", 0),
    "mount_setattr": ("EPERM", "442", -1, "zeros", 0x1000, "zeros", 32),
    "unshare a user namespace": ("EPERM", "unshare", NEWUSER),
    "clone a user namespace": ("EPERM", "clone", NEWUSER | SIGCHLD, 0, 0, 0, 0),
    "clone a user namespace, forged": ("EPERM", "clone", FORGED | NEWUSER | SIGCHLD, 0, 0, 0, 0),
    "setns": ("EPERM", "setns", -1, 0),
    "clone3": ("ENOSYS", "435", 0, 0),
    "open_by_handle_at": ("EPERM", "open_by_handle_at", -1, "zeros", 0),
    "personality": ("EPERM", "personality", 0x0040000),
    "syslog": ("EPERM", "syslog", 10, 0, 0),
    "settimeofday": ("EPERM", "settimeofday", 0, 0),
    "clock_settime": ("EPERM", "clock_settime", 0, 0),
    "adjtimex": ("EPERM", "adjtimex", "zeros"),
    "swapoff": ("EPERM", "swapoff", "zeros"),
    "delete_module": ("EPERM", "delete_module", "zeros", 0),
    "TIOCSTI": ("EPERM", "ioctl", 0, 0x5412, "zeros"),
    "TIOCSTI with a forged upper half": ("EPERM", "ioctl", 0, FORGED + 0x5412, "zeros"),
}

WITHOUT_NETWORK = {
    "AF_INET": ("EAFNOSUPPORT", "socket", 2, 1, 0),
    "AF_INET with a forged upper half": ("EAFNOSUPPORT", "socket", FORGED + 2, 1, 0),
    "UDP over AF_INET6": ("EAFNOSUPPORT", "socket", 10, 2, 0),
    "AF_NETLINK": ("EAFNOSUPPORT", "socket", 16, 3, 0),
    "shmget": ("EPERM", "shmget", 0, 4096, 0o600),
    "prlimit of another": ("EPERM", "prlimit64", "self", 7, 0, 0),
    "setpriority of a user's all": ("EPERM", "setpriority", 2, 0, 19),
    "setpriority of another": ("EPERM", "setpriority", 0, "self", 19),
    "ioprio_set of a user's all": ("EPERM", "ioprio_set", 3, 0, 0),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("attack", REFUSED)
def test_a_refused_call_works_only_without_the_filter(attack, user):
    answer, *arguments = REFUSED[attack]
    _fails_only_with(seccomp.filter_bytes(), answer, arguments, user)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("attack", WITHOUT_NETWORK)
def test_without_network_only_unix_sockets_are_left(attack, user):
    answer, *arguments = WITHOUT_NETWORK[attack]
    _fails_only_with(seccomp.filter_bytes_without_network(), answer, arguments, user)


@pytest.mark.parametrize(
    "attack", ["AF_VSOCK with a forged upper half", "io_uring_setup", "TIOCSTI with a forged upper half"]
)
def test_the_networkless_filter_refuses_the_rest_too(attack):
    answer, *arguments = REFUSED[attack]
    _fails_only_with(seccomp.filter_bytes_without_network(), answer, arguments, None)


def _fails_only_with(program: bytes, answer: str, arguments: list, user: int | None) -> None:
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root can run as another user")
    assert call(*arguments, user=user, filter=program) == answer
    outside = call(*arguments, user=user)
    if outside in (answer, "ENOSYS", "EPERM", "EACCES", "EPROTONOSUPPORT"):
        pytest.skip(f"refused, but this kernel gives {outside} to this user without the filter as well")
    assert outside in ("ok", "EINVAL", "EBADF", "EFAULT", "ENOENT", "ENODEV", "ENOTTY", "ENOKEY", "ENOTBLK", "EIO")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 calls exist on x86-64 only")
def test_calls_of_another_architecture_kill_the_process():
    x32_getpid = str(0x40000000 + 39)
    assert call(x32_getpid, filter=seccomp.filter_bytes()) == "killed"
    assert call(x32_getpid) != "killed"


ORDINARY = """
import multiprocessing, os, socket, subprocess, tempfile, threading, time
def square(n): return n * n
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
    socket.socket(family).close()
socket.socketpair()
socket.if_nameindex()
thread = threading.Thread(target=time.sleep, args=(0.01,)); thread.start(); thread.join()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(square, [2, 3]) == [4, 9]
assert subprocess.check_output(["/bin/sh", "-c", "echo a | cat"]) == b"a\\n"
os.nice(1)
print("fine")
"""


@pytest.mark.parametrize("user", USERS)
def test_ordinary_programs_run_under_the_filter(user):
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root can run as another user")
    done = run(ORDINARY, user=user, filter=seccomp.filter_bytes())
    assert done.stdout == "fine\n", done.stderr


def test_a_filter_file_starts_at_its_beginning_and_is_not_inherited():
    fd = seccomp.filter_fd()
    try:
        assert not os.get_inheritable(fd)
        assert os.read(fd, 2**20) == seccomp.filter_bytes()
    finally:
        os.close(fd)


def test_a_machine_without_libseccomp_is_told_what_to_install():
    code = (
        "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
        "from agent.sandbox.embedded import seccomp\n"
        "try: seccomp.filter_bytes()\n"
        "except seccomp.SeccompUnavailable as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "libseccomp2" in done.stdout, done.stderr
