"""Papers: found, read in pieces, and honest about what the Hub does not have."""

import pytest

from tests.tools.fake_hub import FakeHub
from tests.tools.hub_samples import GOOD
from tools.context import Context, ToolError
from tools.papers import read_paper, search_papers

pytestmark = pytest.mark.usefixtures("context")


def test_a_paper_is_found_by_its_subject(hub: FakeHub) -> None:
    found = search_papers("preference optimisation")
    assert found["rows"] == [
        [
            "2305.18290",
            "Direct preference optimisation",
            "2026-05-04",
            7,
            "Preferences without a reward model.",
        ]
    ]
    assert "other words" in search_papers("quantum cooking")["note"]


@pytest.mark.parametrize(
    "spelling",
    [
        "2305.18290",
        "arxiv:2305.18290v3",
        "https://arxiv.org/abs/2305.18290",
        "https://arxiv.org/pdf/2305.18290v2.pdf",
        "https://huggingface.co/papers/2305.18290",
    ],
)
def test_a_paper_is_read_however_it_is_named(hub: FakeHub, spelling: str) -> None:
    found = read_paper(spelling)
    assert found["title"] == "Direct preference optimisation"
    assert found["models"] == ["acme/tiny-qwen"]
    assert "Preferences without a reward model." in found["markdown"]
    assert "R. Author" in found["markdown"]


def test_the_full_text_comes_in_pieces_that_join_again(hub: FakeHub) -> None:
    first = read_paper("2305.18290")
    second = read_paper("2305.18290", start=first["next_start"])
    whole = hub.paper_texts["2305.18290"]
    assert second["next_start"] is None
    assert second["markdown"] == whole[first["next_start"] :].strip()
    assert whole[: first["next_start"]].strip() in first["markdown"]
    with pytest.raises(ToolError, match="beyond its end"):
        read_paper("2305.18290", start=10_000_000)


@pytest.mark.parametrize("missing", ["", "<!doctype html><html>"])
def test_without_a_full_text_the_abstract_is_given_and_that_is_said(hub: FakeHub, missing: str) -> None:
    hub.paper_texts["2305.18290"] = missing
    found = read_paper("2305.18290")
    assert "only the abstract" in found["note"] and "reward model" in found["markdown"]
    assert "doctype" not in found["markdown"]


def test_an_unknown_or_misspelt_paper_says_what_to_do(hub: FakeHub) -> None:
    with pytest.raises(ToolError, match=r"2401.00001 is not on the Hub.*search_papers"):
        read_paper("2401.00001")
    with pytest.raises(ToolError, match="holds no arXiv id"):
        read_paper("the DPO paper")
    assert not any("DPO" in path for path in hub.paths())


def test_offline_nothing_is_asked(hub: FakeHub, context: Context) -> None:
    context.offline = True
    for call in (lambda: search_papers("x"), lambda: read_paper("2305.18290")):
        with pytest.raises(ToolError, match="Offline"):
            call()
    assert hub.seen == []


def test_the_token_is_not_in_what_comes_back(hub: FakeHub, context: Context) -> None:
    context.hf_token = GOOD
    assert GOOD not in str(read_paper("2305.18290"))
