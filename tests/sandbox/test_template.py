"""The cloud template: our pins and no others, and a build that says to E2B's API what is printed."""

import json
import re
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.sandbox import template
from agent.settings import Settings

from .template_api import KEY, template_api


def test_the_template_holds_our_own_pins_with_torch_first() -> None:
    told = json.loads(template.text())
    assert told["fromTemplate"] == "code-interpreter-v1"
    installs = [step["args"][0] for step in told["steps"]]
    assert re.fullmatch(r"pip install torch==[\d.]+", installs[0])
    named = {word.split("==")[0] for word in " ".join(installs).split() if "==" in word}
    assert named == set(template.INSIDE)
    pinned = set(template.REQUIREMENTS.read_text().split())
    assert all(word in pinned for line in installs for word in line.split()[2:])


def test_a_build_sends_what_is_printed_and_ends_with_the_id(capsys: pytest.CaptureFixture[str]) -> None:
    with template_api() as api:
        assert template.build(Settings(home=Path("/"), e2b_api_key=KEY, e2b_api_url=api.url)) == "tpl"
    calls = [(method, path.partition("?")[0]) for method, path, _ in api.asked]
    assert calls[:2] == [("POST", "/v3/templates"), ("POST", "/v2/templates/tpl/builds/bld")]
    assert calls[2] == ("GET", "/templates/tpl/builds/bld/status")
    assert api.asked[0][2]["name"] == "modelsmith" and api.asked[0][2]["memoryMB"] == 8192
    sent, printed = api.asked[1][2], json.loads(template.text())
    assert sent["fromTemplate"] == printed["fromTemplate"]
    assert [step["args"] for step in sent["steps"]] == [step["args"] for step in printed["steps"]]
    out = capsys.readouterr().out
    assert "installing" in out and KEY not in out


def test_a_build_that_fails_says_why() -> None:
    with template_api(failure="no room on the builder") as api:
        with pytest.raises(UserError, match=r"not built .*no room on the builder"):
            template.build(Settings(home=Path("/"), e2b_api_key=KEY, e2b_api_url=api.url))


def test_a_build_without_a_good_key_or_offline_is_told() -> None:
    with pytest.raises(UserError, match="E2B_API_KEY"):
        template.build(Settings(home=Path("/")))
    with pytest.raises(UserError, match="offline"):
        template.build(Settings(home=Path("/"), e2b_api_key=KEY, offline=True))
    with template_api() as api, pytest.raises(UserError, match="key was refused"):
        template.build(Settings(home=Path("/"), e2b_api_key="other", e2b_api_url=api.url))
