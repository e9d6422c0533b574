"""The kernel's rarely used corners are shut: no namespaces, tracing, keys, programs in the kernel, clocks, modules."""

import subprocess
from pathlib import Path

import pytest

from .attack import PLAIN, ROOT, Jailed, held_only_inside, inside, outside

seccomp = pytest.importorskip("pyseccomp")


def number(name: str) -> int:
    return seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)


NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
CLONE = """
pid = call(int(sys.argv[1]), int(sys.argv[2]) | 17, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
"""
CLONE3 = """
import struct
told = ctypes.create_string_buffer(struct.pack("8Q", int(sys.argv[1]), 0, 0, 0, 17, 0, 0, 0))
pid = call(435, told, 64)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("kind", NAMESPACES)
@pytest.mark.parametrize("way", ["unshare", "clone", "clone, forged", "clone3"])
def test_no_new_namespace_can_be_made(jailed: Jailed, kind: str, way: str) -> None:
    flag = NAMESPACES[kind]
    code, arguments = {
        "unshare": ("call('unshare', int(sys.argv[1]))", [flag]),
        "clone": (CLONE, [number("clone"), flag]),
        "clone, forged": (CLONE, [number("clone"), 2**32 | flag]),
        "clone3": (CLONE3, [flag]),
    }[way]
    held_only_inside(jailed, code, *arguments, control=ROOT, may_lack=True)


@pytest.mark.parametrize(
    "tool", ["bwrap --unshare-user --ro-bind / / /bin/true", "unshare --user --map-root-user /bin/true"]
)
def test_no_tool_makes_a_jail_in_the_jail(jailed: Jailed, tool: str) -> None:
    code = "import subprocess; subprocess.run(sys.argv[1].split(), check=True, stderr=-3)"
    held_only_inside(jailed, code, tool, control=PLAIN)


# Outside, in mounts of its own: what the control mounts is seen nowhere else.
OWN_MOUNTS = "call('unshare', 0x20000); call('mount', b'x', b'/', 0, 0x44000, 0)"
ATTACKS = {
    "mount a tmpfs": (
        "call('mount', b'x', b'/tmp', b'tmpfs', 0, 0)",
        OWN_MOUNTS,
    ),
    "mount anew writable": (
        "call('mount', b'x', b'/proc', 0, 32 | 4096, 0)",
        OWN_MOUNTS,
    ),
    "take a mount away": (
        "call('umount2', b'/dev/shm', 2)",
        OWN_MOUNTS,
    ),
    "mount by the new calls": ("os.close(call(430, b'tmpfs', 0))", ""),
    "copy a mount": ("os.close(call(428, -100, b'/', 1 | 0x80000))", ""),
    "enter a namespace": ("call('setns', os.open('/proc/self/ns/uts', os.O_RDONLY), 0)", ""),
    "become root": ("os.setuid(0); assert os.geteuid() == 0", ""),
    "take groups": ("os.setgroups([0])", ""),
    "set the host's name": ("call('sethostname', b'escaped', 7)", "call('unshare', 0x4000000)"),
    "trace a child": (
        "import subprocess, time\nchild = subprocess.Popen(['sleep', '9'])\n"
        "try: call('ptrace', 0x4206, child.pid, 0, 0)\nfinally: child.kill()",
        "",
    ),
    "be traced": ("call('ptrace', 0, 0, 0, 0)", ""),
    "read another's memory": (
        "import struct\nhere = ctypes.create_string_buffer(8)\n"
        "vector = ctypes.create_string_buffer(struct.pack('QQ', ctypes.addressof(here), 8))\n"
        "call('process_vm_readv', os.getpid(), vector, 1, vector, 1, 0)",
        "",
    ),
    "take another's open file": ("call(438, os.pidfd_open(os.getpid()), 0, 0)", ""),
    "compare kernel pointers": (f"call({number('kcmp')}, os.getpid(), os.getpid(), 1, 0, 0)", ""),
    "store a key": (f"call({number('add_key')}, b'user', b'escape', b'x', 1, -3)", ""),
    "reach a keyring": (f"call({number('keyctl')}, 0, -4, 1)", ""),
    "load a program into the kernel": (
        "import struct\nasked = ctypes.create_string_buffer(struct.pack('4I', 2, 4, 4, 1) + bytes(112))\n"
        f"call({number('bpf')}, 0, asked, 128)",
        "",
    ),
    "count events": (
        f"import struct\nasked = ctypes.create_string_buffer(struct.pack('IIQ', 1, 112, 0) + bytes(96))\n"
        f"call({number('perf_event_open')}, asked, 0, -1, -1, 0)",
        "",
    ),
    "set up io_uring": ("call(425, 1, ctypes.create_string_buffer(256))", ""),
    "handle page faults": (f"call({number('userfaultfd')}, 1)", ""),
    "switch address randomisation off": ("call('personality', 0x0040000)", ""),
    "push input to a terminal": (
        "import fcntl, pty\nos.setsid()\nmain, side = pty.openpty()\n"
        "fcntl.ioctl(side, 0x540E, 0)\nfcntl.ioctl(side, 0x5412, b'x')",
        "",
    ),
    "push input, forged": (
        "import pty\nos.setsid()\nmain, side = pty.openpty()\nimport fcntl; fcntl.ioctl(side, 0x540E, 0)\n"
        f"call({number('ioctl')}, side, 2**32 + 0x5412, b'x')",
        "",
    ),
    "raise its priority": ("os.setpriority(os.PRIO_PROCESS, 0, -5)", ""),
    "run in real time": ("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", ""),
    "raise its own limits": ("import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))", ""),
    "open ports of the machine": (f"call({number('iopl')}, 3)", ""),
    "listen on a port of the system's": (
        "import socket\nsocket.socket().bind(('0.0.0.0', 79))\nassert os.getuid() == 0",
        "",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_kernel_refuses(jailed: Jailed, attack: str) -> None:
    code, first = ATTACKS[attack]
    held_only_inside(jailed, code, control=ROOT, may_lack=True, first_outside=first)


# What would harm the machine if it worked outside: called there with arguments that cannot succeed, to see that the
# kernel itself says something other than EPERM.
HARMFUL = {
    "restart the machine": ("reboot", 0, 0, 0, 0),
    "load another kernel": ("kexec_load", 0, 0, 0, 0xFF000000),
    "load a module": ("init_module", 0, 0, 0),
    "remove a module": ("delete_module", "no-such-module", 0),
    "swap": ("swapon", "/no/such/file", 0),
    "swap off": ("swapoff", "/no/such/file"),
    "set the clock": ("clock_settime", 1, 0),
    "set the time": ("settimeofday", 8, 0),
    "bend the clock": ("clock_adjtime", 99, 0),
    "account processes": ("acct", "/no/such/file"),
    "change the root": ("pivot_root", "/no/such", "/no/such"),
    "set a quota": ("quotactl", 0, "/no/such", 0, 0),
}


@pytest.mark.parametrize("attack", HARMFUL)
def test_the_kernel_is_not_even_asked(jailed: Jailed, attack: str) -> None:
    name, *arguments = HARMFUL[attack]
    code = "call(int(sys.argv[1]), *(int(a) if a.isdigit() else a.encode() for a in sys.argv[2:]))"
    said = inside(jailed.box, code, number(name), *arguments)
    assert "[Errno 1]" in said, said
    if jailed.is_root:
        freely = outside(code, number(name), *arguments, user=ROOT)
        if "[Errno 38]" in freely:
            pytest.skip(f"held inside, and this kernel has no {name}")
        assert freely.startswith("held") and "[Errno 1]" not in freely, freely


INT80 = r"""
#include <stdio.h>
int main() { int pid; __asm__ volatile("int $0x80" : "=a"(pid) : "a"(20)); printf("%d\n", pid); return pid <= 0; }
"""


def test_calls_of_a_32_bit_program_end_it(jailed: Jailed, tmp_path: Path) -> None:
    """Their numbers differ, so a filter that knew only 64-bit ones would let them pass."""
    jailed.box.files.write("old.c", INT80)
    done = jailed.box.commands.run("gcc -o old old.c && (./old; echo ended $?)").stdout
    assert "ended 159" in done, done  # 128 + SIGSYS
    (tmp_path / "old.c").write_text(INT80)
    subprocess.run(["gcc", "-o", str(tmp_path / "old"), str(tmp_path / "old.c")], check=True)
    if subprocess.run([str(tmp_path / "old")], stdout=subprocess.DEVNULL).returncode != 0:
        pytest.skip("held inside, and this machine runs no 32-bit calls either")


def test_nothing_is_left_of_capabilities_and_none_can_come_back(jailed: Jailed) -> None:
    code = """
told = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
assert int(told["CapBnd"], 16) or int(told["CapEff"], 16) or told["NoNewPrivs"] == "0" or told["Seccomp"] == "0"
"""
    held_only_inside(jailed, code)


def test_shared_memory_of_the_host_is_not_reached(jailed: Jailed) -> None:
    """System V memory, which has keys in place of paths."""
    key = 0x45534341
    make = "call('shmget', int(sys.argv[1]), 4096, 0o1666)"
    assert outside(make, key, user=jailed.user) == "escaped"
    try:
        held_only_inside(jailed, "call('shmget', int(sys.argv[1]), 0, 0o666)", key)
    finally:
        outside("call('shmctl', call('shmget', int(sys.argv[1]), 0, 0o666), 0, 0)", key, user=jailed.user)
