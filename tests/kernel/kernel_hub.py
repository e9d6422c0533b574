"""The Hub on loopback with kernel repositories that take commits on branches, for the real client to write and read.

Files go in with the commit itself, never by the large-file store; a commit's name is made from what the branch holds.
"""

import base64
import hashlib
import json

from tests.tools.fake_hub import Exchange, FakeHub, entry, part
from tests.tools.hub_samples import GOOD

NAME = r"([\w.-]+/[\w.-]+)"


class KernelHub(FakeHub):
    def __init__(self) -> None:
        super().__init__()
        self.kernels: dict[str, dict[str, dict[str, bytes]]] = {}  # repository -> branch -> path -> bytes
        self.on("POST", "/api/repos/create", self.create)
        self.on("POST", "/api/validate-yaml", lambda ask: ask.json({"errors": [], "warnings": []}))
        self.on("POST", rf"/api/kernels/{NAME}/branch/([\w.-]+)", self.branch)
        self.on("POST", rf"/api/kernels/{NAME}/preupload/([\w.-]+)", preupload)
        self.on("POST", rf"/api/kernels/{NAME}/commit/([\w.-]+)", self.commit)
        self.on("GET", rf"/api/kernels/{NAME}/refs", self.refs)
        self.on("GET", rf"/api/kernels/{NAME}(?:/revision/([\w.-]+))?", self.info)
        self.on("GET", rf"/api/kernels/{NAME}/tree/([\w.-]+)(?:/(.+))?", self.tree)
        self.on("(?:GET|HEAD)", rf"/kernels/{NAME}/resolve/([\w.-]+)/(.+)", self.resolve)

    def create(self, ask: Exchange) -> None:
        if ask.token != GOOD:
            return ask.error(401, "Log in to make a repository")
        told = json.loads(ask.body)
        name = f"{told['organization']}/{told['name']}" if told.get("organization") else f"ann/{told['name']}"
        if told["type"] != "kernel":
            return ask.error(400, "only kernels here")
        if name in self.kernels:
            return ask.error(409, "You already created this kernel repo")
        self.kernels[name] = {"main": {}}
        ask.json({"url": f"{self.url}/kernels/{name}"})

    def branch(self, ask: Exchange, repo: str, name: str) -> None:
        if name in self.kernels[repo]:
            return ask.error(409, "Reference already exists")
        self.kernels[repo][name] = dict(self.kernels[repo]["main"])
        ask.json({})

    def commit(self, ask: Exchange, repo: str, branch: str) -> None:
        if ask.token != GOOD:
            return ask.error(401, "Log in to commit")
        files = self.kernels[repo][branch]
        for line in ask.body.decode().splitlines():
            told = json.loads(line)
            if told["key"] == "file":
                files[told["value"]["path"]] = base64.b64decode(told["value"]["content"])
            if told["key"] == "deletedFile":
                files.pop(told["value"]["path"])
        sha = name_of(files)
        ask.json(
            {
                "success": True,
                "commitOid": sha,
                "commitUrl": f"{self.url}/kernels/{repo}/commit/{sha}",
                "hookOutput": "",
            }
        )

    def files(self, repo: str, revision: str | None) -> dict[str, bytes] | None:
        branches = self.kernels.get(repo, {})
        held = branches.get(revision or "main")
        return held if held is not None else next((one for one in branches.values() if name_of(one) == revision), None)

    def refs(self, ask: Exchange, repo: str) -> None:
        branches = self.kernels.get(repo)
        if branches is None:
            return ask.no_repo()
        told = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": name_of(f)} for n, f in branches.items()]
        ask.json({"branches": told, "tags": [], "converts": []})

    def info(self, ask: Exchange, repo: str, revision: str | None = None) -> None:
        files = self.files(repo, revision)
        if files is None:
            return ask.no_repo()
        told = {"_id": "1", "id": repo, "author": repo.split("/")[0], "sha": name_of(files), "private": False}
        told |= {"siblings": [{"rfilename": path} for path in files], "gated": False, "downloads": 0, "likes": 0}
        ask.json(told)

    def tree(self, ask: Exchange, repo: str, revision: str, folder: str | None = None) -> None:
        files = self.files(repo, revision)
        if files is None:
            return ask.no_repo()
        below = f"{folder.rstrip('/')}/" if folder else ""
        recursive = ask.query.get("recursive", ["false"])[0].lower() == "true"
        found = {}
        for path, data in files.items():
            if not path.startswith(below):
                continue
            first, *rest = path[len(below) :].split("/")
            if rest:
                found[below + first] = {"type": "directory", "path": below + first, "oid": "1", "size": 0}
            if recursive or not rest:
                found[path] = entry(path, data)
        ask.json(list(found.values())) if found else ask.error(404, "Entry not found", "EntryNotFound")

    def resolve(self, ask: Exchange, repo: str, revision: str, path: str) -> None:
        files = self.files(repo, revision)
        if files is None:
            return ask.no_repo()
        if path not in files:
            return ask.error(404, "Entry not found", "EntryNotFound")
        tag = f'"{hashlib.sha1(files[path]).hexdigest()}"'
        part(ask, files[path], {"ETag": tag, "X-Repo-Commit": name_of(files), "Accept-Ranges": "bytes"})


def name_of(files: dict[str, bytes]) -> str:
    held = hashlib.sha1()
    for path in sorted(files):
        held.update(path.encode() + b"\0" + files[path] + b"\0")
    return held.hexdigest()


def preupload(ask: Exchange, repo: str, revision: str) -> None:
    wanted = json.loads(ask.body)["files"]
    told = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for one in wanted]
    ask.json({"files": told})
