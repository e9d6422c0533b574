# /// script
# requires-python = ">=3.11"
# dependencies = ["huggingface_hub==2.4.0"]
# ///
"""Upload a kernel to a kernel repository of the Hub: its card to main as README, builds and benchmarks to v<version>.

Only files that `publish.py` lists are read, no link is followed, nothing of the project is run and git is not asked.
The token comes from HF_TOKEN or the person's own login; the Hub from HF_ENDPOINT.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KIND = "kernel"
REPO = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}")
VARIANT = re.compile(
    r"torch-(cuda|cpu|rocm|xpu|metal|universal)"
    r"|torch(\d{2,3}-cxx11|-stable-abi\d{2,3})-(cpu|cu\d{3}|rocm\d{2}|xpu\d{5})-(x86_64|aarch64)-linux"
)
OFFICIAL = "run `kernel-builder build-and-copy -L` in the project, which builds every variant in its own environment"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--repo", required=True, help="organisation/name")
    given = parser.parse_args(argv)
    try:
        told = upload(given.project, given.repo)
    except (ValueError, OSError) as error:  # a refusal of ours; the Hub's answer, or none at all
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{told['files']} files of {', '.join(told['variants'])} are at {told['url']}")
    return 0


def loopback() -> bool:
    """A Hub on this machine is a rehearsal: builds that were made here may go there."""
    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).hostname in ("127.0.0.1", "localhost", "::1")


def builds(project: Path) -> dict[str, Path]:
    """Every variant by name, of the compiled project and of its sibling in Triton, if that is all there is."""
    places = [project / "build"] if (project / "build.toml").exists() else [project / "triton" / "build"]
    return {
        one.name: one for place in places if not place.is_symlink() for one in sorted(place.glob("*")) if one.is_dir()
    }


def refusals(name: str, variant: Path, rehearsal: bool) -> list[str]:
    """Why a build may not be published; empty if it may."""
    wrong = [] if VARIANT.fullmatch(name) else [f"{name} is no name of a build variant"]
    links = [str(one.relative_to(variant)) for one in variant.rglob("*") if one.is_symlink()]
    wrong += [f"{name} holds links: {', '.join(links[:3])}"] if variant.is_symlink() or links else []
    libraries = [] if links else sorted(variant.glob("*.so"))
    metadata = variant / "metadata.json"
    told: dict[str, Any] = json.loads(metadata.read_text(encoding="utf-8")) if metadata.is_file() and not links else {}
    if not told:
        return [*wrong, f"{name} has no metadata.json"]
    if libraries and not rehearsal and "kernel-builder" not in told.get("provenance", {}):
        wrong.append(f"{name} was built here and would not run everywhere: {OFFICIAL}")
    return wrong


def upload(project: Path, repo: str) -> dict[str, Any]:
    if not REPO.fullmatch(repo):
        raise ValueError(f"'{repo}' is no repository. Write organisation/name.")
    if loopback():
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    from huggingface_hub import HfApi

    found = builds(project)
    if not found:
        raise ValueError(f"{project} has no builds.")
    wrong = [why for name, path in found.items() for why in refusals(name, path, loopback())]
    if wrong:
        raise ValueError("; ".join(wrong))
    version = json.loads((project / "kernel.json").read_text(encoding="utf-8"))["version"]
    branch, api = f"v{version}", HfApi()
    api.create_repo(repo, repo_type=KIND, exist_ok=True)
    card = project / "CARD.md"
    if card.is_file() and not card.is_symlink():
        text = card.read_text(encoding="utf-8").replace("ORGANISATION/", f"{repo.partition('/')[0]}/")
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo, repo_type=KIND)
    api.create_branch(repo, branch=branch, repo_type=KIND, exist_ok=True)
    count = 0
    for name, path in found.items():
        files = [one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts]
        count += len(files)
        api.upload_folder(
            repo_id=repo, repo_type=KIND, folder_path=path, path_in_repo=f"build/{name}", revision=branch,
            ignore_patterns=["**/__pycache__/**", "*.pyc"], delete_patterns=["*"], commit_message=f"Build {name}",
        )  # fmt: skip
    for one in sorted((project / "benchmarks").glob("benchmark*.py")):
        if not one.is_symlink():
            where = {"path_in_repo": f"benchmarks/{one.name}", "repo_id": repo, "repo_type": KIND, "revision": branch}
            api.upload_file(path_or_fileobj=one, **where)
    return {
        "url": f"{api.endpoint}/kernels/{repo}/tree/{branch}",
        "files": count,
        "variants": list(found),
        "branch": branch,
    }


if __name__ == "__main__":
    sys.exit(main())
