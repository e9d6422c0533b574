"""A Hub on loopback for the real client in this process, with a cache and a working folder of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.fake_hub import FakeHub
from tools.context import Context, inside


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    from huggingface_hub import close_session, constants

    fake = FakeHub()
    monkeypatch.setenv("HF_ENDPOINT", fake.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # read from the environment when it was imported
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield fake
    close_session()
    fake.close()


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    folder = tmp_path / "work"
    folder.mkdir()
    with inside(Context(home=tmp_path, folder=folder)) as now:
        yield now
