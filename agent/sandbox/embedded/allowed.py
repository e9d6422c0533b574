"""The default allow list: the hosts pip and huggingface_hub are themselves configured to use, nothing typed in here.

Their exact hosts are marked private: where this machine's own names lead its own tools (a mirror, an inside address
of a public name), the sandbox may follow. Wildcards are not. What may be sent to these hosts is not limited.
"""

import functools
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .rules import WEB_PORTS, Rule

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("tool_settings.py")
CERTIFICATES = Path("/etc/ssl")  # the one place of certificates that a jail sees
YES = {"1", "true", "yes", "on"}


@functools.cache
def tool_settings() -> dict[str, Any]:
    """What the program beside this file printed; read once, as the tools read their configuration at their start."""
    # -P: no module of this folder may stand in for one of the libraries.
    command = [sys.executable, "-P", str(PROGRAM)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    if ran.returncode != 0:
        log.warning("pip's and huggingface_hub's settings cannot be read: %s", ran.stderr.strip()[-300:])
        return {"pip": {}, "hub": {}}
    found = json.loads(ran.stdout.splitlines()[-1])
    for problem in found["problems"]:
        log.warning("settings left out, %s", problem)
    return found


def default_hosts(local_only: bool) -> list[Rule]:
    """The ceiling of a server whose owner named no hosts. Empty when nothing may leave the machine."""
    if local_only:
        return []
    found = tool_settings()
    rules = [rule for url in pip_urls(found["pip"]) if (rule := rule_for(url)) is not None]
    index, files = found["pip"].get("index", ""), found["pip"].get("files")
    if files and any(rule.name == urlsplit(index).hostname for rule in rules):
        rules.append(Rule(files, private=True))
    hub = found["hub"]
    rules += [rule for url in hub.get("urls", ()) if (rule := rule_for(url)) is not None]
    own = urlsplit(hub.get("endpoint", "")).hostname
    for host in hub.get("hosts", ()):
        rules.append(Rule(host, private=True))
        if host != own:  # its stores of large files have names below these, which no constant lists
            rules.append(Rule(f"*.{host}"))
    return list(dict.fromkeys(rules))


def pip_environment() -> dict[str, str]:
    """What pip (and TLS) in a jail must be told to use the same index. Never a credential."""
    found = tool_settings()["pip"]
    configured = found.get("configured", {})
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for name in ("index-url", "extra-index-url", "find-links"):
        urls = [without_credentials(url, name) for url in configured.get(name, "").split() if is_web(url)]
        if urls:
            settings[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(urls)
    if trusted := configured.get("trusted-host"):
        settings["PIP_TRUSTED_HOST"] = " ".join(trusted.split())
    if no_index(configured):
        settings["PIP_NO_INDEX"] = "1"
    if in_jail(configured.get("cert", "")):
        settings["PIP_CERT"] = configured["cert"]
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if in_jail(os.environ.get(name, "")):
            settings[name] = os.environ[name]
    return settings


def pip_urls(found: dict[str, Any]) -> list[str]:
    configured = found.get("configured", {})
    indexes: list[str] = []
    if not no_index(configured):
        indexes = [
            configured.get("index-url") or found.get("index", ""),
            *configured.get("extra-index-url", "").split(),
        ]
    return [url for url in (*indexes, *configured.get("find-links", "").split()) if is_web(url)]


def no_index(configured: dict[str, str]) -> bool:
    return configured.get("no-index", "").lower() in YES


def is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def rule_for(url: str) -> Rule | None:
    try:
        parts = urlsplit(url)
        host = bracketed(parts)
        rule = Rule.parse(f"{host}:{parts.port} private" if parts.port not in (None, *WEB_PORTS) else f"{host} private")
    except ValueError as error:
        log.warning("a configured address is left out of the allow list: %s", error)
        return None
    return rule


def bracketed(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


def without_credentials(url: str, setting: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    log.warning("pip's %s carries credentials for %s; the sandbox gets it without them", setting, parts.hostname)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def in_jail(value: str) -> bool:
    """Whether a certificate file or folder is one that the jail binds too, links followed."""
    return (
        bool(value) and Path(value).is_relative_to(CERTIFICATES) and Path(value).resolve().is_relative_to(CERTIFICATES)
    )
