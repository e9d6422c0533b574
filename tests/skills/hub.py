"""The Hub on loopback with what the blocks in skills name."""

from tests.tools.fake_hub import FakeHub
from tests.tools.hub_samples import Repo


class Hub(FakeHub):
    def __init__(self) -> None:
        super().__init__()
        card = b"---\nlicense: apache-2.0\n---\n# Qwen3\n"
        files = {"README.md": card, "config.json": b'{"model_type": "qwen3"}', "model.safetensors": bytes(2048)}
        self.repos.append(Repo("model", "Qwen/Qwen3-0.6B", files))
