"""What the Hub on loopback holds, in the shapes of its answers: an account, repositories, a paper, collections."""

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

GOOD, STALE = "hf_goodToken0123456789", "hf_staleToken0123456789"
USER = {
    "type": "user",
    "id": "1",
    "name": "ann",
    "fullname": "Ann",
    "isPro": True,
    "canPay": False,
    "orgs": [{"name": "team", "roleInOrg": "write"}],
    "auth": {
        "accessToken": {
            "displayName": "laptop",
            "role": "fineGrained",
            "fineGrained": {"scoped": [{"entity": {"name": "ann"}, "permissions": ["repo.write", "job.write"]}]},
        }
    },
}
WHEN = "2026-05-04T10:00:00.000Z"


def safetensors(**tensors: tuple[str, list[int]]) -> bytes:
    """A file with true header and zeros."""
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = {"BF16": 2, "F32": 4}[dtype]
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


@dataclass
class Repo:
    kind: str
    id: str
    files: dict[str, bytes]
    private: bool = False
    gated: str | bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{self.kind}{self.id}".encode()).hexdigest()

    def record(self, blobs: bool = False) -> dict[str, Any]:
        siblings = [{"rfilename": path} | ({"size": len(data)} if blobs else {}) for path, data in self.files.items()]
        return {
            "_id": self.sha[:24],
            "id": self.id,
            "author": self.id.split("/")[0],
            "sha": self.sha,
            "lastModified": WHEN,
            "createdAt": WHEN,
            "private": self.private,
            "gated": self.gated,
            "disabled": False,
            "downloads": 10,
            "likes": 3,
            "tags": [],
            "siblings": siblings,
        } | self.extra


def example_repos() -> list[Repo]:
    card = (
        b"---\nlicense: apache-2.0\nbase_model: acme/base\n---\n# Tiny\n\n<img src='x.png'>\nA tiny model for tests.\n"
    )
    weights = safetensors(embed=("BF16", [100, 8]), head=("F32", [10, 8]))
    config = b'{"model_type": "qwen3", "hidden_size": 8}'
    tiny = {"README.md": card, "config.json": config, "model.safetensors": weights, "onnx/notes.txt": b"notes"}
    set_card = b"---\nlicense: cc-by-4.0\nconfigs:\n- config_name: default\n---\nJokes in two languages.\n"
    info = {
        "config_name": "default",
        "features": [{"name": "joke", "dtype": "string"}, {"name": "tags", "list": "string"}],
        "splits": [{"name": "train", "num_examples": 1200}, {"name": "test", "num_examples": 100}],
    }
    lines = "".join(json.dumps({"joke": f"Ärger Nummer {n}"}, ensure_ascii=False) + "\n" for n in range(2000)).encode()
    return [
        Repo(
            "model",
            "acme/tiny-qwen",
            tiny,
            extra={
                "pipeline_tag": "text-generation",
                "library_name": "transformers",
                "safetensors": {"parameters": {"BF16": 800, "F32": 80}, "total": 880},
                "config": {"model_type": "qwen3"},
                "cardData": {"license": "apache-2.0", "base_model": "acme/base"},
                "tags": ["text-generation", "license:apache-2.0"],
            },
        ),
        Repo("model", "acme/uncounted", {"model.safetensors": weights}),
        Repo(
            "model",
            "acme/gated-llm",
            {"README.md": b"Ask first.", "config.json": b"{}", "model.safetensors": weights},
            gated="manual",
        ),
        Repo("model", "ann/secret", {"config.json": b'{"mine": true}'}, private=True),
        Repo("dataset", "ann/diary", {"train.jsonl": b'{"text": "Mine."}\n'}, private=True),
        Repo(
            "dataset",
            "acme/jokes",
            {"README.md": set_card, "data/train.jsonl": lines, "data/test.parquet": b"PAR1\0\0PAR1"},
            extra={
                "cardData": {"license": "cc-by-4.0", "language": ["en", "de"], "dataset_info": info},
                "tags": ["size_categories:1K<n<10K", "license:cc-by-4.0"],
            },
        ),
    ]


def paper(id: str, title: str, models: list[str]) -> dict[str, Any]:
    linked = [Repo("model", model, {}).record() for model in models]
    return {
        "id": id,
        "title": title,
        "summary": "Preferences without a reward model.",
        "authors": [{"_id": "1", "name": "R. Author", "hidden": False}],
        "publishedAt": WHEN,
        "upvotes": 7,
        "linkedModels": linked,
        "linkedDatasets": [],
        "githubRepo": "https://example.org/code",
    }


def collection(slug: str, title: str, items: list[tuple[str, str]]) -> dict[str, Any]:
    listed = [{"_id": str(at), "id": id, "type": kind, "position": at} for at, (kind, id) in enumerate(items)]
    owner = {"name": slug.split("/")[0], "type": "org"}
    told = {"slug": slug, "title": title, "owner": owner, "items": listed, "lastUpdated": WHEN, "description": ""}
    return told | {"position": 0, "private": False, "theme": "blue", "upvotes": 4}
