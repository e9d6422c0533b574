"""One server for the tests that only use sandboxes; tests that break it start their own."""

from collections.abc import Iterator

import pytest
from e2b_code_interpreter import Sandbox

from .serving import Served, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def sandbox(served: Served) -> Iterator[Sandbox]:
    with Sandbox.create(**served.options) as made:
        yield made


@pytest.fixture(scope="module")
def shared_sandbox(served: Served) -> Iterator[Sandbox]:
    """For tests that leave no trace in it."""
    with Sandbox.create(**served.options) as made:
        yield made
