"""What a script in the sandbox fetches from the Hub, it fetches without a token: what needs one is told before."""

from pathlib import Path
from typing import Any

import pytest

from tests.tools.fake_hub import FakeHub
from tests.tools.hub_samples import GOOD
from tests.training.making import as_if_good
from tests.training.small_run import small_run
from tools import runs
from tools.context import Context, ToolError, inside
from tools.jobs.jailed import lent
from tools.jobs.trust import JAILED
from tools.preflight import preflight
from tools.running import record


class Untouched:
    """In place of the jail: nothing may get as far."""

    def run(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("it was started")

    detached = run


def test_a_dataset_that_needs_a_token_is_told_before_anything_is_started(home: Path, hub: FakeHub) -> None:
    folder = small_run(home, "one", dataset={"id": "ann/diary"})
    with inside(Context(home, hf_token=GOOD, jail=Untouched())):  # type: ignore[arg-type]
        with pytest.raises(ToolError, match="dataset ann/diary is private or gated") as refused:
            preflight("one")
        assert "prepare_dataset('ann/diary', method='sft') and plan with the folder" in str(refused.value)
        as_if_good(folder)
        with pytest.raises(ToolError, match="dataset ann/diary is private or gated"):
            runs.start_run("one")
    assert not record.job(folder).get("attempts") and not (folder / JAILED).exists()
    assert not any("authorization" in {name.lower() for name in headers} for _, _, headers in hub.seen)


def test_what_is_open_or_cannot_be_asked_for_is_let_through(home: Path, hub: FakeHub) -> None:
    folder = small_run(home, "one", dataset={"id": "acme/jokes"})
    with inside(Context(home, hf_token=GOOD)):
        lent(folder)
        assert "/api/datasets/acme/jokes" in hub.paths()
        hub.faults["acme/jokes"] = ["500", "500"]
        lent(folder)
    asked = len(hub.seen)
    with inside(Context(home, offline=True)):
        lent(small_run(home, "two", dataset={"id": "ann/diary"}))
    assert len(hub.seen) == asked


def test_a_gated_model_is_to_be_fetched_here(home: Path, hub: FakeHub) -> None:
    folder = small_run(home, "one", model={"id": "acme/gated-llm"})
    with inside(Context(home, hf_token=GOOD)), pytest.raises(ToolError, match="by `hf download acme/gated-llm`"):
        lent(folder)
