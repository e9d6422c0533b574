"""One server as root and one as an ordinary user, each with two sandboxes that the checks share."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox

from tests.sandbox.serving import ORDINARY, PRODUCT, serving

from .attack import Jailed
from .witness import Witness

LIMITS = {
    "MODELSMITH_SANDBOX_MEMORY_MB": "640",
    "MODELSMITH_SANDBOX_PIDS": "160",
    "MODELSMITH_SANDBOX_DISK_MB": "128",
}


def program() -> tuple[str, ...]:
    """The product, or what test_each_measure_counts.py wants to see fail."""
    measure = os.environ.get("ESCAPE_WITHOUT")
    return ("-m", "tests.sandbox.escape.weakened", measure) if measure else PRODUCT


@pytest.fixture(scope="session")
def witness() -> Iterator[Witness]:
    with Witness() as started:
        yield started


@pytest.fixture(scope="session", params=["root", "ordinary"])
def jailed(request: pytest.FixtureRequest, witness: Witness) -> Iterator[Jailed]:
    as_root = request.param == "root"
    if as_root and os.geteuid() != 0:
        pytest.skip("only root can start the server as root")
    user = 0 if as_root else ORDINARY if os.geteuid() == 0 else os.geteuid()
    home = Path(tempfile.mkdtemp(prefix="escape-"))  # not pytest's: that one only root may enter
    home.chmod(0o755)
    secret = secrets.token_hex(16)
    planted = plant(home, secret, user)
    environment = {
        **LIMITS,
        "ESCAPE_SECRET": secret,
        "MODELSMITH_SANDBOX_ALLOW": f"127.0.0.1:{witness.allowed} private",
        "MODELSMITH_SANDBOX_SHARES": f'[{{"host": "{planted["share"]}", "inside": "/mnt/share"}}]',
    }
    ordinary = not as_root and os.geteuid() == 0
    try:
        with serving(home, ordinary=ordinary, program=program(), **environment) as served:
            box = Sandbox.create(timeout=3600, **served.options)
            other = Sandbox.create(timeout=3600, envs={"OTHER_SECRET": secret}, **served.options)
            other.files.write("secret.txt", secret)
            other.commands.run("exec -a the-other-one sleep 3600", background=True, timeout=0)
            yield Jailed(served, box, other, user, secret, planted)
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)
        for path in planted.values():
            if secret[:8] in path:
                Path(path).unlink()


@pytest.fixture
def fresh(jailed: Jailed) -> Iterator[Sandbox]:
    """A sandbox that a check may break."""
    with Sandbox.create(timeout=300, **jailed.served.options) as made:
        yield made


def plant(home: Path, secret: str, user: int) -> dict[str, str]:
    """What an attacker would like: a token in the server's home, and files anyone may write in read-only places."""
    import agent.sandbox.embedded.guest as guest

    token = home / ".cache" / "huggingface" / "token"
    share = home / "share"
    token.parent.mkdir(parents=True)
    share.mkdir()
    name = f"escape-{secret[:8]}"
    open_to_all = {"venv": Path(sys.prefix, name), "guest": Path(guest.__path__[0], "__pycache__", name)}
    if os.access("/usr/local/share", os.W_OK):
        open_to_all["usr"] = Path("/usr/local/share", name)
    planted = {"token": token, "share": share, "shared": share / "data", **open_to_all}
    for path in planted.values():
        if path != share:
            path.parent.mkdir(exist_ok=True)
            path.write_text(secret)
            path.chmod(0o666 if path in open_to_all.values() else 0o600)
    if os.geteuid() == 0:
        for path in (token, *token.parents[:2], share, share / "data"):
            os.chown(path, user, user)
        planted["setuid"] = share / "id"
        shutil.copy("/usr/bin/id", share / "id")
        (share / "id").chmod(0o4755)
        share.chmod(0o711)
    return {kind: str(path) for kind, path in planted.items()}
