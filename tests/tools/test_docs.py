"""Documentation: found and read on the configured Hub, and nowhere else."""

import pytest

from tests.tools.fake_hub import FakeHub
from tests.tools.hub_samples import GOOD
from tools.context import Context, ToolError
from tools.docs import read_docs, search_docs

pytestmark = pytest.mark.usefixtures("context")


def test_pages_are_found_and_their_address_can_be_read(hub: FakeHub) -> None:
    found = search_docs("packing", product="trl")
    address = found["rows"][0][found["columns"].index("address")]
    assert address == "https://huggingface.co/docs/trl/sft_trainer"
    assert read_docs(address)["markdown"].startswith("# SFT Trainer")
    assert search_docs("packing", product="peft")["rows"] == []
    assert search_docs("")["rows"] == [["trl", "training", f"{hub.url}/docs/trl"]]


@pytest.mark.parametrize("spelling", ["trl/sft_trainer", "/docs/trl/sft_trainer", "docs/trl/sft_trainer#packing"])
def test_a_page_is_read_however_it_is_named(hub: FakeHub, spelling: str) -> None:
    assert read_docs(spelling)["url"] == f"{hub.url}/docs/trl/sft_trainer"


def test_a_long_page_comes_in_pieces(hub: FakeHub) -> None:
    first = read_docs("trl/sft_trainer")
    second = read_docs("trl/sft_trainer", start=first["next_start"])
    whole = hub.pages["/docs/trl/sft_trainer"]
    assert second["markdown"].startswith(whole[first["next_start"] :][:100])
    assert f"start={first['next_start']}" in first["note"]


def test_a_page_given_as_html_is_asked_for_as_markdown(hub: FakeHub) -> None:
    hub.html = {"/docs/trl/sft_trainer"}
    assert read_docs("trl/sft_trainer")["markdown"].startswith("# SFT Trainer")
    hub.html |= {"/docs/trl/sft_trainer.md"}
    with pytest.raises(ToolError, match="no Markdown page"):
        read_docs("trl/sft_trainer")


def test_a_redirect_inside_the_documentation_is_followed(hub: FakeHub) -> None:
    hub.redirects["/docs/trl/old"] = "/docs/trl/sft_trainer"
    assert read_docs("trl/old")["url"].endswith("/docs/trl/sft_trainer")
    hub.redirects["/docs/trl/a"], hub.redirects["/docs/trl/b"] = "/docs/trl/b", "/docs/trl/a"
    with pytest.raises(ToolError, match="circles"):
        read_docs("trl/a")


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/docs/latest",
        "https://example.org/docs/x",
        "file:///docs/passwd",
        "http://huggingface.co@example.org/docs/x",
        "{hub}@example.org/docs/x",
        "{hub}/api/whoami-v2",
        "{hub}/docs/../api/whoami-v2",
        "{hub}/docs/%2e%2e/api/whoami-v2",
        "/docs/..%2fapi",
        "//example.org/docs/x",
        "http://user:pass@{host}/docs/x",
    ],
)
def test_no_other_place_is_read(hub: FakeHub, address: str) -> None:
    with pytest.raises(ToolError, match="no documentation page"):
        read_docs(address.format(hub=hub.url, host=hub.url.removeprefix("http://")))
    assert hub.seen == []


@pytest.mark.parametrize("target", ["http://169.254.169.254/docs/x", "/api/whoami-v2", "{cdn}/docs/trl/sft_trainer"])
def test_a_redirect_to_another_place_is_refused(hub: FakeHub, target: str) -> None:
    hub.redirects["/docs/trl/trap"] = target.format(cdn=hub.cdn)
    with pytest.raises(ToolError, match="no documentation page"):
        read_docs("trl/trap")
    assert len(hub.seen) == 1


def test_the_token_is_never_sent_for_documentation(hub: FakeHub, context: Context) -> None:
    context.hf_token = GOOD
    search_docs("packing")
    read_docs("trl/sft_trainer")
    assert len(hub.seen) == 2
    assert all("authorization" not in {name.lower() for name in headers} for _, _, headers in hub.seen)


def test_an_unknown_page_says_how_to_find_one(hub: FakeHub) -> None:
    with pytest.raises(ToolError, match="search_docs"):
        read_docs("trl/nothing_here")


def test_offline_nothing_is_asked(hub: FakeHub, context: Context) -> None:
    context.offline = True
    for call in (lambda: search_docs("x"), lambda: read_docs("trl/sft_trainer")):
        with pytest.raises(ToolError, match="Offline"):
            call()
    assert hub.seen == []
