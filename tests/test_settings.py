"""Where settings come from, who wins, and how a wrong one is told."""

from pathlib import Path

import pytest

from agent.errors import UserError
from agent.settings import load_settings


def test_without_anything_said_there_are_defaults(home: Path) -> None:
    settings = load_settings()
    assert (settings.home, settings.model, settings.sandbox, settings.offline) == (home, "auto", "auto", False)
    assert settings.sandbox_allow is None and settings.max_usd is None


def test_home_is_below_the_persons_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings().home == tmp_path / ".modelsmith"


def test_override_beats_environment_beats_file_beats_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config.toml").write_text('model = "from-file"\nmax_steps = 5\n')
    assert load_settings().model == "from-file"
    monkeypatch.setenv("MODELSMITH_MODEL", "from-environment")
    assert load_settings().model == "from-environment"
    settings = load_settings(model="from-override", max_steps=None)
    assert (settings.model, settings.max_steps) == ("from-override", 5)


def test_the_environment_can_say_lists_and_tables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSMITH_SANDBOX_ALLOW", "example.org, files.example.org")
    monkeypatch.setenv("MODELSMITH_SANDBOX_SHARES", '[{"host": "/data", "inside": "/data", "write": true}]')
    monkeypatch.setenv("MODELSMITH_OFFLINE", "true")
    settings = load_settings()
    assert settings.sandbox_allow == ["example.org", "files.example.org"]
    assert settings.sandbox_shares[0].write and settings.offline
    monkeypatch.setenv("MODELSMITH_SANDBOX_ALLOW", "none")
    assert load_settings().sandbox_allow == []


def test_an_unknown_key_in_the_file_is_named_with_the_allowed_ones(home: Path) -> None:
    (home / "config.toml").write_text("modle = 'x'\n")
    with pytest.raises(UserError, match=r"config\.toml: unknown key 'modle'\. Allowed: .*\bmodel\b"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_steps = 0", "max_steps: Input should be greater than or equal to 1"),
        ("e2b_api_url = 'example.org'", "e2b_api_url: String should match"),
        ("[[sandbox_shares]]\nhost = '/data'\ninside = 'data'", r"sandbox_shares\.0\.inside: "),
        ("[[sandbox_shares]]\nhost = '/data'\ninside = '/data'\nwirte = true", r"sandbox_shares\.0\.wirte: "),
        ("max_steps = ", "cannot be read"),
    ],
)
def test_a_wrong_value_is_told_with_file_and_key(home: Path, text: str, told: str) -> None:
    (home / "config.toml").write_text(text)
    with pytest.raises(UserError, match=rf"config\.toml:? {told}"):
        load_settings()


def test_a_wrong_value_in_the_environment_is_told_with_its_variable(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSMITH_SANDBOX_TIMEOUT", "soon")
    with pytest.raises(UserError, match=r"MODELSMITH_SANDBOX_TIMEOUT: sandbox_timeout: .*integer"):
        load_settings()


def test_secrets_are_read_and_never_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2B_API_KEY", "e2b-planted")
    monkeypatch.setenv("HF_TOKEN", "hf-planted")
    settings = load_settings()
    assert settings.e2b_api_key and settings.e2b_api_key.get_secret_value() == "e2b-planted"
    assert settings.hf_token and settings.hf_token.get_secret_value() == "hf-planted"
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "planted" not in shown


def test_a_secret_is_not_repeated_by_the_error_that_refuses_it(home: Path) -> None:
    (home / "config.toml").write_text('hf_token = ["hf-planted"]\n')
    with pytest.raises(UserError) as caught:
        load_settings()
    assert "hf_token" in str(caught.value) and "planted" not in str(caught.value)
