"""Passwords of a team: one line `name:hash` for each person, scrypt, never a password itself."""

import base64
import hashlib
import hmac
import os
import re
from pathlib import Path

from agent.errors import UserError

COST = {"n": 2**14, "r": 8, "p": 1}
LINE = re.compile(r"([\w.@-]{1,64}):(scrypt\$(\d+)\$(\d+)\$(\d+)\$([\w-]+={0,2})\$([\w-]+={0,2}))")
SHORTEST = 8
NOBODY = "scrypt$16384$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def line(name: str, password: str) -> str:
    """What goes into the file."""
    if not re.fullmatch(r"[\w.@-]{1,64}", name):
        raise UserError(f"'{name}' is no name to sign in with. Use letters, digits, dots and dashes.")
    if len(password) < SHORTEST:
        raise UserError(f"The password is too short. Take at least {SHORTEST} characters.")
    salt = os.urandom(16)
    key = hashlib.scrypt(password.encode(), salt=salt, maxmem=2**26, dklen=32, **COST)
    numbers = "$".join(str(COST[name]) for name in ("n", "r", "p"))
    return f"{name}:scrypt${numbers}${coded(salt)}${coded(key)}"


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def fits(password: str, hash: str) -> bool:
    _, n, r, p, salt, key = hash.split("$")
    wanted = base64.urlsafe_b64decode(key)
    made = hashlib.scrypt(
        password.encode(),
        salt=base64.urlsafe_b64decode(salt),
        n=int(n),
        r=int(r),
        p=int(p),
        maxmem=2**27,
        dklen=len(wanted),
    )
    return hmac.compare_digest(made, wanted)


def read(told: list[str]) -> dict[str, str]:
    """Name to hash, from files and from lines given as they are."""
    found: dict[str, str] = {}
    for one in told:
        if LINE.fullmatch(one):
            lines = [one]
        else:
            try:
                lines = Path(one).expanduser().read_text().splitlines()
            except (OSError, UnicodeDecodeError):
                raise UserError(
                    f"--auth {one}: no such file, and no name:hash. `ui password NAME` makes one."
                ) from None
        for number, text in enumerate(lines, 1):
            if text.strip() and not text.startswith("#"):
                match = LINE.fullmatch(text.strip())
                if not match:
                    raise UserError(f"--auth {one}: line {number} is no name:hash. `ui password NAME` makes one.")
                found[match[1]] = match[2]
    if not found:
        raise UserError("--auth names nobody. `python -m agent ui password NAME` makes a line for the file.")
    return found
