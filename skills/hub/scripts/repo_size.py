# /// script
# requires-python = ">=3.11"
# dependencies = ["huggingface_hub==2.4.0"]
# ///
"""How large is a repository, or the files of it that fit some patterns? Asked before a download. Prints JSON."""

import argparse
import json
import sys
from fnmatch import fnmatch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo", help="owner/name")
    parser.add_argument("--type", choices=["model", "dataset", "space"], default="model")
    parser.add_argument("--revision", help="branch, tag or commit")
    parser.add_argument("--include", action="append", default=[], metavar="PATTERN", help="may be given again")
    parser.add_argument("--largest", type=int, default=10, help="how many files to list")
    args = parser.parse_args()

    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().repo_info(args.repo, repo_type=args.type, revision=args.revision, files_metadata=True)
    except OfflineModeIsEnabled:
        print("HF_HUB_OFFLINE is set. Unset it to ask the Hub.", file=sys.stderr)
        return 2
    except HfHubHTTPError as error:
        print(f"{args.repo} cannot be read: {error.server_message or error}. Check its name and type.", file=sys.stderr)
        return 2
    files = [(file.size or 0, file.rfilename) for file in info.siblings or []]
    if args.include:
        files = [(size, name) for size, name in files if any(fnmatch(name, pattern) for pattern in args.include)]
    files.sort(reverse=True)
    told = {
        "repo": args.repo,
        "commit": info.sha,
        "files": len(files),
        "bytes": sum(size for size, _ in files),
        "gib": round(sum(size for size, _ in files) / 2**30, 3),
        "largest": [{"path": name, "bytes": size} for size, name in files[: args.largest]],
    }
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
