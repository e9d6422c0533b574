"""The fallback where user namespaces are forbidden: a private uid, Landlock and seccomp, instead of namespaces.

Also a launcher, standard library only: `python -I landlock.py --uid N --gid N --ro P --rw P --seccomp-fd N -- CMD`.
Root only, because Landlock leaves chmod, utime, inotify and connect() to a unix socket in the file system (the user's
D-Bus, an ssh agent) open to whoever the ordinary permissions admit. A uid that nothing else uses closes those; each
sandbox must have its own. What remains: no own /proc, /tmp or pids; what everybody may stat is seen; unix sockets open
to every user of this machine can be reached; no network at all, not even loopback.
"""

import argparse
import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
VERSION_FLAG = 1
PATH_BENEATH = 1
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15  # known from ABI 2, 3 and 5 on
ABI_1 = (1 << 13) - 1
READ_ONLY = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
BIND_TCP, CONNECT_TCP = 1, 2
ABSTRACT_UNIX_SOCKETS, SIGNALS = 1, 2

SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/sys/devices/system/cpu"]
SYSTEM += [f"/etc/{name}" for name in ("ld.so.cache", "alternatives", "ssl", "ca-certificates", "localtime")]
SYSTEM += [f"/etc/{name}" for name in ("passwd", "group", "nsswitch.conf", "hosts", "mime.types", "fonts", "terminfo")]
# Only what speaks of the machine: folders of /proc carry command lines. A process gets not even its own.
SYSTEM += [f"/proc/{name}" for name in ("cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version", "filesystems")]
SYSTEM += [f"/proc/sys/{name}" for name in ("vm/overcommit_memory", "kernel/osrelease", "kernel/pid_max")]
DEVICES = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")]

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def abi() -> int:
    """The version of Landlock this kernel offers; 0 for none."""
    return max(0, _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(VERSION_FLAG)))


def command(
    uid: int, seccomp_fd: int, cmd: list[str], *, ro: Iterable[Path] = (), rw: Iterable[Path] = ()
) -> list[str]:
    """The launcher's command line: the system and `ro` (the virtual environment) readable, `rw` (home, tmp) writable.
    For root, with `pass_fds=[seccomp_fd, …]`; descriptors passed on stay open in `cmd`, the filter's does not."""
    paths = [f"--ro={path}" for path in (*SYSTEM, *ro)] + [f"--rw={path}" for path in (*DEVICES, *rw)]
    fixed = [f"--uid={uid}", f"--gid={uid}", f"--seccomp-fd={seccomp_fd}"]
    return [sys.executable, "-I", str(Path(__file__).resolve()), *paths, *fixed, "--", *cmd]


def kill_user(uid: int) -> None:
    """SIGKILL to every process of a sandbox's private uid, in one step of the kernel that no fork can outrun."""
    if uid == 0:
        raise ValueError("uid 0 is not a sandbox's")
    kill = ["/bin/sh", "-c", "kill -KILL -1"]
    subprocess.run(kill, user=uid, group=uid, extra_groups=[], cwd="/", env={}, capture_output=True)


@cache
def usable(uid: int = 64999) -> str | None:
    """None when a command really starts under these measures and finds the wall, else the reason why not."""
    from . import seccomp  # not above: the launcher runs this file alone

    if abi() < 1:
        return "this kernel has no Landlock"
    if os.geteuid() != 0:
        return "Landlock alone does not keep a plain user's own files and sockets from the sandbox"
    try:
        fd = seccomp.filter_fd(seccomp.filter_bytes_without_network())
    except seccomp.SeccompUnavailable as error:
        return str(error)
    try:
        # /proc/self/stat is open to everyone, so only Landlock can refuse it.
        trial = command(uid, fd, ["/bin/sh", "-c", "if cat /proc/self/stat; then exit 3; fi; exit 0"])
        path = {"PATH": "/usr/bin:/bin"}
        done = subprocess.run(trial, pass_fds=[fd], cwd="/", env=path, capture_output=True, text=True)
    finally:
        os.close(fd)
    if done.returncode == 0:
        return None
    return f"Landlock does not hold here: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}"


def handled_rights(version: int) -> int:
    """Every file right this kernel can refuse. Asking for one it does not know would fail the whole ruleset."""
    newer = (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0) | (IOCTL_DEV if version >= 5 else 0)
    return ABI_1 | newer


def restrict(ro: list[str], rw: list[str]) -> None:
    """Hold this process and its children, for good, to the given paths; those that do not exist are passed over."""
    version = abi()
    handled = handled_rights(version)
    network = BIND_TCP | CONNECT_TCP if version >= 4 else 0
    scopes = ABSTRACT_UNIX_SOCKETS | SIGNALS if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = struct.pack("=QQQ", handled, network, scopes)[:size]
    ruleset = _check(_libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint(0)))
    for paths, rights in ((ro, READ_ONLY), (rw, handled & ~(MAKE_CHAR | MAKE_BLOCK))):
        for path in paths:
            _allow(ruleset, path, rights & handled)
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.syscall(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0)))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):
        rights &= OF_FILES
    rule = struct.pack("=Qi", rights, fd)
    _check(_libc.syscall(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(PATH_BENEATH), rule, ctypes.c_uint(0)))
    os.close(fd)


def _drop_to(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or uid == 0:
        raise PermissionError(errno.EPERM, "could not drop root")


def load_seccomp(program: bytes) -> None:
    """Hold this process and its children to a compiled filter. Needs no_new_privs (or root)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    compiled = _Program(len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(compiled), 0, 0))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a command under a private uid, Landlock and seccomp.")
    parser.add_argument("--ro", action="append", default=[], metavar="PATH", help="may be read and executed")
    parser.add_argument("--rw", action="append", default=[], metavar="PATH", help="may be written too")
    parser.add_argument("--uid", type=int, required=True)
    parser.add_argument("--gid", type=int, required=True)
    parser.add_argument("--seccomp-fd", type=int, required=True, metavar="N", help="open file with the compiled filter")
    parser.add_argument("cmd", nargs="+")
    arguments = parser.parse_args()
    with os.fdopen(arguments.seccomp_fd, "rb") as file:
        program = file.read()
    if os.getpgrp() != os.getpid():
        os.setsid()
    _drop_to(arguments.uid, arguments.gid)
    # After the change of uid, which clears it. A parent that died before is noticed by the descriptors it held.
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    restrict(arguments.ro, arguments.rw)
    load_seccomp(program)
    os.execvp(arguments.cmd[0], arguments.cmd)


if __name__ == "__main__":
    main()
