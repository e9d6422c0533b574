"""Which files a sentence names."""

from pathlib import Path

import pytest

from agent.loop.given import Given


@pytest.mark.parametrize(
    "task",
    [
        "what is in runs.csv?",
        "Plot runs.csv.",
        "see (runs.csv)!",
        "it isn't in `runs.csv`, is it?",
        'compare runs.csv, then "runs.csv"...',
    ],
)
def test_a_named_file_is_given_whatever_sign_stands_behind_it(task: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("a\n1\n")
    assert Given(tmp_path).named(task, []) == [tmp_path / "runs.csv"]


def test_a_path_with_spaces_is_given_between_quotes(tmp_path: Path) -> None:
    path = tmp_path / "möbel 2026" / "my runs.csv"
    path.parent.mkdir()
    path.write_text("a\n1\n")
    assert Given(tmp_path).named("describe 'möbel 2026/my runs.csv', please", []) == [path]
    assert Given(tmp_path).named("describe möbel 2026/my runs.csv", []) == []


def test_a_dot_at_the_beginning_belongs_to_the_name(tmp_path: Path) -> None:
    (tmp_path / ".hidden.csv").write_text("a\n1\n")
    assert Given(tmp_path).named("describe .hidden.csv.", []) == [tmp_path / ".hidden.csv"]
    assert Given(tmp_path).named("what is hidden.csv?", []) == []
