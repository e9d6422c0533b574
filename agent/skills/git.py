"""A git repository's files at one commit, and nothing of its will: no hooks, filters, submodules or prompts.

`https://` and `file://` only. The history is not fetched.
"""

import os
import re
import resource
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from agent.errors import UserError

SECONDS = 120
PACK_MOST = 200 * 1024 * 1024  # of any one file that git writes
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}")
SAFE = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.symlinks": "true",
    "credential.helper": "",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.file.allow": "always",
    "submodule.recurse": "false",
    "fetch.fsckObjects": "true",
}


def fetch(url: str, revision: str | None, into: Path) -> str:
    """The commit that now lies in `into`, without its `.git`."""
    check(url, revision)
    into.mkdir(parents=True, exist_ok=True)
    git(into, "init", "--quiet", "--template=")
    git(into, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url, revision or "HEAD")
    git(into, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    return git(into, "rev-parse", "HEAD").strip()


def check(url: str, revision: str | None) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "file"):
        raise UserError(f"{parts.scheme}:// is not taken for git. Use an https:// or file:// address.")
    if parts.username or parts.password:
        raise UserError("the address carries a name or password. Clone a private repository yourself.")
    if revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise UserError(f"'{revision}' is no branch, tag or commit. Look it up in the repository.")


def git(folder: Path, *arguments: str) -> str:
    settings = [word for name, value in SAFE.items() for word in ("-c", f"{name}={value}")]
    quiet = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *settings, *arguments],
            cwd=folder,
            env=kept | quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (PACK_MOST, PACK_MOST)),
        )
    except FileNotFoundError:
        raise UserError("git is not installed. Install it, or give an archive.") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"git took longer than {SECONDS} s. Clone it yourself and add its folder.") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise UserError(f"git {arguments[0]} failed: {said[:300]}. Check the address and the revision.")
    return done.stdout
