"""Takes a process's right to write, save below the folders named, before it loads a kernel: by Landlock, without root.

Reading stays allowed. What a process gave up it and its children never get back, and it can no longer trace others.
Where the kernel has no Landlock `confine` returns the reason and changes nothing: the caller must tell.
"""

import ctypes
import os
import struct

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
NO_NEW_PRIVS = 38
WRITE_FILE, REMOVE_DIR, REMOVE_FILE, MAKE = 1 << 1, 1 << 4, 1 << 5, 0b1111111 << 6
REFER, TRUNCATE = 1 << 13, 1 << 14
ONLY_FILES = WRITE_FILE | TRUNCATE


def confine(writable: list[str]) -> str | None:
    """None once nothing but `writable` (folders or devices) can be written, else why this machine cannot do it."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if version < 1:
        return "the kernel has no Landlock"
    handled = (
        WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE | (REFER if version > 1 else 0) | (TRUNCATE if version > 2 else 0)
    )
    attributes = struct.pack("=Q", handled)
    ruleset = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    if ruleset < 0:
        return f"Landlock: {os.strerror(ctypes.get_errno())}"
    for path in writable:
        if not os.path.exists(path):
            continue
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = handled if os.path.isdir(path) else handled & ONLY_FILES
        libc.syscall(ADD_RULE, ruleset, ctypes.c_int(1), struct.pack("=Qi", allowed, parent), ctypes.c_uint(0))
        os.close(parent)
    libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    failed = libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint(0))
    os.close(ruleset)
    return f"Landlock: {os.strerror(ctypes.get_errno())}" if failed else None
