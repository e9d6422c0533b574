"""Naming a place on the Hub: `hf://[datasets/|spaces/]owner/name[@revision][/path]`, a web address, or a bare id.

Only names are read here; whether the place exists is for the Hub to say. Buckets and kernels are not read.
"""

from dataclasses import dataclass

from tools.context import ToolError
from tools.hubs.client import endpoint

KINDS = ("model", "dataset", "space")
FORM = "hf://owner/name/path, hf://datasets/owner/name@revision/path or hf://spaces/owner/name/path"


@dataclass(frozen=True)
class Place:
    kind: str
    repo_id: str
    revision: str | None = None
    path: str = ""
    kind_told: bool = True  # False: a bare id, which may be of any kind

    @property
    def prefix(self) -> str:
        return "" if self.kind == "model" else f"{self.kind}s/"

    @property
    def page(self) -> str:
        return f"{endpoint()}/{self.prefix}{self.repo_id}"

    def at(self, path: str) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.prefix}{self.repo_id}{revision}" + (f"/{path}" if path else "")

    def __str__(self) -> str:
        return self.at(self.path)


def place_of(text: str, kind: str | None = None, revision: str | None = None) -> Place:
    """Read any spelling of a place. `kind` and `revision`, if given, win over what a bare id would mean."""
    from huggingface_hub import parse_hf_uri
    from huggingface_hub.errors import HfUriError

    if kind is not None and kind not in KINDS:
        raise ToolError(f"Unknown kind {kind!r}. Use one of: {', '.join(KINDS)}.")
    text = text.strip().rstrip("/")
    if text.startswith(("/", "~", ".")):
        raise ToolError(f"{text!r} is a path on a machine; open it with Python. A place on the Hub is {FORM}.")
    bare = not text.startswith("hf://") and "://" not in text
    told = not bare or text.startswith(("datasets/", "spaces/", "models/"))
    name, _, after = text.removeprefix("hf://").partition("@")
    if "/" not in name and "://" not in text and name:  # ids of the early days: gpt2, squad
        place = Place(kind or "model", name, after or None, kind_told=bool(kind))
    else:
        try:
            uri = parse_hf_uri(f"hf://{text}" if bare and not _is_web(text) else text, endpoint=endpoint())
        except HfUriError:
            raise ToolError(f"{text!r} names no place on the Hub. Write {FORM}.") from None
        if uri.type not in KINDS:
            raise ToolError(f"{text!r} is a {uri.type}; only models, datasets and Spaces are read here.")
        place = Place(uri.type, uri.id, uri.revision, uri.path_in_repo, told or kind is not None)
        if kind and not told:
            place = Place(kind, uri.id, uri.revision, uri.path_in_repo)
    if revision:
        place = Place(place.kind, place.repo_id, revision, place.path, place.kind_told)
    if ".." in f"{place.repo_id}/{place.revision}/{place.path}".split("/"):
        raise ToolError(f"{text!r} must not contain '..'. Write {FORM}.")
    return place


def _is_web(text: str) -> bool:
    return text.startswith(("huggingface.co/", "hf.co/"))
