"""One attack, two places: inside a sandbox through the SDK, and as a plain process of the host, which is the control.

An attack is python code for the system's interpreter. It has won when it runs to its end; any exception means it was
held. So a mistake in an attack fails its control and cannot pass for a wall.
"""

import os
import shlex
import subprocess
from dataclasses import dataclass, field
from errno import EACCES, EAFNOSUPPORT, EINVAL, ENODEV, ENOENT, ENOSYS, EOPNOTSUPP, EPERM

import httpcore
import pytest
from e2b import SandboxException
from e2b_code_interpreter import Sandbox

from tests.sandbox.serving import ORDINARY, Served

PYTHON = "/usr/bin/python3"
RUNNER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    function = libc.syscall if isinstance(name, int) else getattr(libc, name)
    words = (name, *arguments) if isinstance(name, int) else arguments
    result = function(*(ctypes.c_long(word) if isinstance(word, int) else word for word in words))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(name))
    return result
code = sys.argv.pop(1)
try:
    exec(compile(code, "attack", "exec"))
except BaseException as error:
    print(f"held: {type(error).__name__}: {error}", flush=True)
else:
    print("escaped", flush=True)
"""
LACKING = tuple(
    f"[Errno {number}]" for number in (EPERM, ENOENT, EACCES, ENODEV, EINVAL, ENOSYS, EOPNOTSUPP, EAFNOSUPPORT)
)


@dataclass
class Jailed:
    """A server, two sandboxes on it, and what was planted around them for attackers to find."""

    served: Served
    box: Sandbox
    other: Sandbox
    user: int  # whom the server runs as
    secret: str
    planted: dict[str, str] = field(default_factory=dict)

    @property
    def is_root(self) -> bool:
        return self.user == 0


def inside(box: Sandbox, code: str, *arguments: object, may_end: bool = False) -> str:
    """`may_end`: the attack may cost the attacker its sandbox."""
    command = shlex.join([PYTHON, "-I", "-c", RUNNER, code, *map(str, arguments)])
    try:
        return last_line(box.commands.run(f"{command} || echo held: exit $?", timeout=100).stdout)
    except (SandboxException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        if not may_end or box.is_running():
            raise
        return f"held: the sandbox was ended ({error})"


def outside(code: str, *arguments: object, user: int) -> str:
    drop = {"user": user, "group": user, "extra_groups": []} if user != os.geteuid() else {}
    command = [PYTHON, "-I", "-c", RUNNER, code, *map(str, arguments)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, cwd="/", check=False, **drop
    )
    return last_line(done.stdout) or f"held: exit {done.returncode} {done.stderr[-300:]}"


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def held_only_inside(
    jailed: Jailed,
    code: str,
    *arguments: object,
    control: int | None = None,
    may_lack: bool = False,
    first_outside: str = "",
    box: Sandbox | None = None,
) -> str:
    """Fails inside, succeeds outside as `control` (a uid; the server's own unless named). `may_lack`: kernels differ,
    and where this one refuses outside too, only the control is missing and the check is skipped, once the inside held.
    `first_outside` keeps the control from harming the machine. A `box` of its own may be lost in the attack."""
    said = inside(box or jailed.box, code, *arguments, may_end=box is not None)
    assert said.startswith("held"), f"the attack worked inside: {said}"
    user = jailed.user if control is None else control
    if user != os.geteuid() and os.geteuid() != 0:
        pytest.skip(f"held inside ({said}); the control needs uid {user}")
    freely = outside(f"{first_outside}\n{code}", *arguments, user=user)
    if may_lack and any(errno in freely for errno in LACKING):
        pytest.skip(f"held inside ({said}), and this machine refuses it outside too ({freely})")
    assert freely == "escaped", f"the control outside failed, so the check proves nothing: {freely}"
    return said


ROOT, PLAIN = 0, ORDINARY
