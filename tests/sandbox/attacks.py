"""How the tests of the walls act: raw system calls and small programs, as root or a plain user, with or without a wall.

Everything goes through the system's python, because a plain user cannot read an interpreter in root's home.
"""

import ctypes
import os
import shutil
import subprocess
import traceback
from collections.abc import Callable

import pytest

from agent.sandbox.embedded import landlock, seccomp

PYTHON = shutil.which("python3", path="/usr/bin:/bin")
needs_python = pytest.mark.skipif(PYTHON is None, reason="no system python that a plain user can run")
PLAIN = 64100


def _no_seccomp() -> str:
    try:
        seccomp.filter_bytes()
    except seccomp.SeccompUnavailable as error:
        return str(error)
    return ""


needs_seccomp = pytest.mark.skipif(bool(_no_seccomp()), reason=_no_seccomp())

# One system call. Words among its arguments: `zeros` and `root` point to memory, `self` is the pid.
ONE_CALL = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
zeros, root, me = ctypes.create_string_buffer(4096), ctypes.create_string_buffer(b"/"), os.getpid()
words = {"zeros": zeros, "root": root, "self": ctypes.c_long(me)}
arguments = [words[a] if a in words else ctypes.c_ulong(int(a) % 2**64) for a in sys.argv[1:]]
result = libc.syscall(*arguments)
if os.getpid() != me:
    os._exit(0)
print("ok" if result >= 0 else errno.errorcode[ctypes.get_errno()])
"""

DAEMON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.dup2(os.open("/dev/null", os.O_RDWR), 1)
print(os.getpid(), file=sys.stderr, flush=True)
os.dup2(1, 2)
time.sleep(60)
"""

Result = subprocess.CompletedProcess[str]


def run(code: str, *arguments: object, user: int | None = None, filter: bytes | None = None, **more: object) -> Result:
    """Run python code as a user, under a seccomp filter."""
    return run_command([PYTHON, "-I", "-c", code, *map(str, arguments)], user=user, filter=filter, **more)


def run_command(command: list[str], user: int | None = None, filter: bytes | None = None, **more: object) -> Result:
    drop = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    hold = None if filter is None else lambda: load(filter)
    fixed = {"capture_output": True, "text": True, "timeout": 60, "cwd": "/", "stdin": subprocess.DEVNULL}
    return subprocess.run(command, preexec_fn=hold, **{**fixed, **drop, **more})


def load(program: bytes) -> None:
    ctypes.CDLL(None).prctl(landlock.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    landlock.load_seccomp(program)


def call(name: str, *arguments: object, user: int | None = None, filter: bytes | None = None) -> str:
    """`ok`, the name of the error, or `killed` for one system call made by name or number."""
    import pyseccomp  # fails without libseccomp, where tests that come here are skipped

    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) if not name.isdigit() else int(name)
    if number < 0:
        pytest.skip(f"{name} does not exist on this machine's architecture")
    done = run(ONE_CALL, number, *arguments, user=user, filter=filter)
    return "killed" if done.returncode == -31 else done.stdout.strip() or done.stderr


def in_child(work: Callable[[], None]) -> None:
    """Run a function of the test in a forked child, which may drop privileges or filter itself."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        failure = pipe.read()
    os.waitpid(pid, 0)
    assert not failure, failure
