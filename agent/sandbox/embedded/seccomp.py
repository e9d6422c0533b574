"""Which system calls the jail refuses, as a compiled filter for `bwrap --seccomp FD` and for landlock.py.

Default allow: ordinary programs (compilers, numpy, multiprocessing) run unchanged. Refused is what reaches other
processes, the kernel's rarely used corners, new namespaces, and sockets that a cut network namespace does not cut
(AF_VSOCK leads to the host of a VM). Not covered: bugs of the kernel in calls that every program needs. Compiled by
libseccomp once per process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EAFNOSUPPORT, ENOSYS, EPERM
from functools import cache
from types import ModuleType
from typing import Any

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
NETLINK_ROUTE = 0
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
LOW_32_BITS = 0xFFFFFFFF
FAMILIES = range(64)  # The kernel knows fewer than 64 and refuses larger numbers itself.

REFUSED = [
    *("keyctl", "add_key", "request_key"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    *("bpf", "perf_event_open", "userfaultfd"),
    *("mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "quotactl", "acct"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "swapon", "swapoff", "reboot"),
    *("settimeofday", "clock_settime", "adjtimex", "clock_adjtime"),
    *("open_by_handle_at", "personality", "syslog", "iopl", "ioperm"),
]

# One number on every architecture; by number, because an old libseccomp does not know the younger names.
REFUSED_NUMBERS = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "open_tree_attr": 467,
}
CLONE3 = 435

# CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWNS, each refused on its own.
NEW_NAMESPACES = (0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x00020000)


class SeccompUnavailable(Exception):
    """libseccomp is not on this machine, or cannot build the filter."""


def filter_fd(program: bytes | None = None) -> int:
    """A memory file with the filter, at offset 0, for the caller to pass on (`pass_fds`) and to close."""
    fd = os.memfd_create("seccomp-filter", os.MFD_CLOEXEC)
    os.write(fd, filter_bytes() if program is None else program)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@cache
def filter_bytes() -> bytes:
    """The filter inside namespaces: IP sockets stay, the network namespace decides where they lead."""
    with _building() as (seccomp, rules):
        _refuse_calls(seccomp, rules)
        _refuse_families(seccomp, rules, allowed={AF_UNIX, AF_INET, AF_INET6, AF_NETLINK})
        # Routing netlink lists interfaces, the other protocols configure the kernel. NE compares 64 bits: a forged
        # upper half is unequal and refused.
        rules.add_rule(
            seccomp.ERRNO(EAFNOSUPPORT),
            "socket",
            seccomp.Arg(0, seccomp.MASKED_EQ, LOW_32_BITS, AF_NETLINK),
            seccomp.Arg(2, seccomp.NE, NETLINK_ROUTE),
        )
        return _compiled(rules)


@cache
def filter_bytes_without_network() -> bytes:
    """The filter where no namespaces help: unix sockets only, no System V objects, no settings of other processes."""
    with _building() as (seccomp, rules):
        _refuse_calls(seccomp, rules)
        _refuse_families(seccomp, rules, allowed={AF_UNIX})
        for name in ("shmget", "semget", "msgget", "mq_open"):
            rules.add_rule(seccomp.ERRNO(EPERM), name)
        other = seccomp.Arg(0, seccomp.NE, 0)  # argument 0 is a pid, 0 means the caller
        # Not the scheduler's calls: zmq sets its threads' policy, and the uid of its own bounds whom they can reach.
        for name in ("prlimit64", "migrate_pages", "move_pages"):
            rules.add_rule(seccomp.ERRNO(EPERM), name, other)
        # "which" is 0 for a process in setpriority and 1 in ioprio_set; groups and users are refused whole.
        for name, process in (("setpriority", 0), ("ioprio_set", 1)):
            rules.add_rule(seccomp.ERRNO(EPERM), name, seccomp.Arg(0, seccomp.NE, process))
            rules.add_rule(seccomp.ERRNO(EPERM), name, seccomp.Arg(1, seccomp.NE, 0))
        return _compiled(rules)


@contextmanager
def _building() -> Iterator[tuple[ModuleType, Any]]:
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        cure = "Install libseccomp2 (apt) or libseccomp (dnf, apk)."
        raise SeccompUnavailable(f"libseccomp is missing ({error}). {cure}") from error
    try:
        rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        # A 32-bit or x32 call has other numbers and would slip past every rule: the process is killed instead.
        rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
        yield pyseccomp, rules
    except OSError as error:
        raise SeccompUnavailable(f"libseccomp cannot build the filter ({error}). Update libseccomp.") from error


def _refuse_calls(seccomp: ModuleType, rules: Any) -> None:
    for call in (*REFUSED, *REFUSED_NUMBERS.values()):
        rules.add_rule(seccomp.ERRNO(EPERM), call)
    # The flags of clone3 lie in memory, where a filter cannot look; ENOSYS makes the C library use clone.
    rules.add_rule(seccomp.ERRNO(ENOSYS), CLONE3)
    for flag in NEW_NAMESPACES:
        rules.add_rule(seccomp.ERRNO(EPERM), "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # The kernel reads 32 bits of a request or family; comparing all 64 would let 2**32 + TIOCSTI through.
    for request in (TIOCSTI, TIOCLINUX):
        rules.add_rule(seccomp.ERRNO(EPERM), "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, LOW_32_BITS, request))


def _refuse_families(seccomp: ModuleType, rules: Any, allowed: set[int]) -> None:
    for family in FAMILIES:
        if family not in allowed:
            for call in ("socket", "socketpair"):
                rules.add_rule(
                    seccomp.ERRNO(EAFNOSUPPORT), call, seccomp.Arg(0, seccomp.MASKED_EQ, LOW_32_BITS, family)
                )


def _compiled(rules: Any) -> bytes:
    fd = os.memfd_create("seccomp-build", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "rb", closefd=False) as file:
            rules.export_bpf(file)
            file.seek(0)
            return file.read()
    finally:
        os.close(fd)
