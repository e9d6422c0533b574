from collections.abc import Iterator

import pytest

from tests.skills.hub import Hub


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()
    yield served
    served.close()
