# /// script
# requires-python = ">=3.11"
# dependencies = ["kernels==0.17.2", "huggingface_hub==2.4.0"]
# ///
"""State 9, publish: what would be uploaded and whether it may be. Uploads only with --upload.

Names of variants, digests, links, the stable ABI and the oldest glibc are checked. Builds made here are refused on the
Hub; on a Hub on loopback, given by HF_ENDPOINT, they may be rehearsed with.
"""

import argparse
import os
import sys
from pathlib import Path

import evidence
import upload
from libraries import outside_stable_abi, too_new
from load import digest
from project import Mistake, Project


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--repo", help="organisation/name")
    parser.add_argument(
        "--upload", action="store_true", help="really upload, with the token of HF_TOKEN or of your login"
    )
    given = parser.parse_args(argv)
    try:
        project = Project.open(given.project)
        with evidence.recording("publish", project.folder) as record:
            plan(project, record)
            if given.upload and all(part["status"] == "pass" for part in record.parts):
                record.part("upload", *uploaded(project, given.repo))
    except (Mistake, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return evidence.told(given.project, "publish")


def plan(project: Project, record: evidence.Record) -> None:
    """One part for each variant: pass if it may go to the Hub, not_run if it may not because it was only made here."""
    found = upload.builds(project.folder)
    if not found:
        record.part("builds", "not_run", reason="there is no build: run compile.py")
        return
    report = evidence.read(project.folder, "report")
    proven = report is not None and report["numbers"].get("verdict") not in (None, "NOT READY", "UNPROVEN")
    reason = "" if proven else "its report does not say that it is right: run check, then report"
    record.part("proven", "pass" if proven else "fail", "computed", reason)
    for name, path in found.items():
        if (path / "metadata.json").is_file():
            record.part(f"{name} digest", *digest(path))
        libraries = sorted(path.glob("*.so"))
        unstable = [symbol for library in libraries for symbol in outside_stable_abi(library) or []]
        if unstable:
            record.part(
                f"{name} ABI", "fail", "computed", f"needs what is not in the stable ABI: {', '.join(unstable[:3])}"
            )
        newer = sorted({version for library in libraries for version in too_new(library) or []})
        size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) // 1024
        told = {
            "to": f"build/{name} on v{project.spec['version']}",
            "kilobytes": size,
            "newer_than_manylinux_2_28": newer,
        }
        wrong = upload.refusals(name, path, upload.loopback())
        if newer and not upload.loopback():
            wrong.append(f"{name} needs {', '.join(newer)}, the Hub allows manylinux_2_28")
        if not wrong:
            record.part(name, "pass", "computed", **told)
        elif all("was built here" in why or "manylinux" in why for why in wrong):
            record.part(name, "not_run", reason="; ".join(wrong))
        else:
            record.part(name, "fail", "computed", "; ".join(wrong), **told)
    waiting = [part for part in record.parts if part["status"] == "not_run"]
    if len(waiting) == len(found):
        record.find("note", f"nothing may be uploaded yet: {upload.OFFICIAL}")


def uploaded(project: Project, repo: str | None) -> tuple[str, str, str]:
    if not repo:
        raise Mistake("Name the repository: --repo organisation/name")
    if not os.environ.get("HF_TOKEN") and not upload.loopback():
        from huggingface_hub import get_token

        if not get_token():
            raise Mistake("There is no token: log in with `hf auth login`, or set HF_TOKEN.")
    try:
        told = upload.upload(project.folder, repo)
    except OSError as error:  # every error of the Hub's client is one
        return "fail", "computed", evidence.last_line(error)
    return "pass", "computed", told["url"]


if __name__ == "__main__":
    sys.exit(main())
