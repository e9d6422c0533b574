"""Files between the person's machine and the sandbox: what may go in, what comes out, and where it lies then."""

from pathlib import Path

import pytest

from .conftest import Talking
from .scripted_server import code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work" / "clean" / ".cache").mkdir(parents=True)
    (tmp_path / "work" / "clean" / "train.txt").write_text("rows")
    (tmp_path / "work" / "clean" / ".cache" / "x").write_text("x")
    (tmp_path / "work" / ".env").write_text("KEY=planted")
    (tmp_path / "elsewhere.txt").write_text("planted")
    (tmp_path / "work" / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    return tmp_path / "work"


def test_a_folder_that_a_tool_wrote_is_fetched_to_the_same_path_and_is_there_in_a_new_sandbox(
    talk: Talking, folder: Path
) -> None:
    look = "import glob; print(open('clean/train.txt').read(), glob.glob('clean/.*'))"
    talking = talk([code(f"fetch('clean'); {look}"), "Ok.", code(look), "Ok."], cwd=folder)
    talking.run()
    assert "rows []" in talking.server.last_word()
    talking.session.executor.cleanup()
    talking.run("Again.")
    assert "rows []" in talking.server.last_word() and "clean/train.txt" in talking.server.messages()[0]["content"]


TRY = """
for path in {paths}:
    try:
        print(path, {tool}(path))
    except Exception as error:
        print(error)
"""


def test_what_is_hidden_or_lies_elsewhere_stays_where_it_is(talk: Talking, folder: Path) -> None:
    paths = [".env", "../elsewhere.txt", "link.txt", "clean/.cache", "/etc/passwd", "~/.ssh", "/"]
    talking = talk(["", "Ok."], cwd=folder)
    (talking.settings.home / "config.toml").touch()
    paths += [str(talking.settings.home), str(talking.settings.home / "config.toml")]
    talking.server.answers[0] = code(TRY.format(paths=paths, tool="fetch"))
    talking.run()
    (talking.settings.home / "config.toml").unlink()
    assert talking.text("output").count("may not be fetched") == len(paths)


def test_our_own_home_inside_the_persons_folder_is_no_part_of_it(talk_alone: Talking) -> None:
    talking = talk_alone([code("print(fetch('sessions.db'))"), "Ok."])  # they are the same folder here
    talking.run()
    assert "may not be fetched" in talking.server.last_word()


def test_a_file_is_kept_on_the_persons_machine_and_never_over_another(talk: Talking) -> None:
    make = "import os; os.makedirs('out', exist_ok=True); open('out/table.csv', 'w').write('a,b')"
    keep = "kept = [keep('out/table.csv'), keep('/home/user/out/table.csv'), keep('out/table.csv', name='../../x')]"
    told = "print([one['path'].rpartition('/')[2] for one in kept]); final_answer(kept[0])"
    talking = talk([code(f"{make}\n{keep}\n{told}")])
    outcome = talking.run()
    rooms = talking.settings.home / "artifacts" / talking.session.id
    assert "['table.csv', 'table-2.csv', 'x']" in talking.text("output")
    assert outcome.answer["path"] == str(rooms / "table.csv") and (rooms / "table.csv").read_text() == "a,b"
    assert [event.data["title"] for event in talking.events("artifact")] == ["table.csv", "table-2.csv", "x"]


def test_what_cannot_be_kept_is_told_and_leaves_nothing(talk: Talking) -> None:
    paths = ["nothing.txt", "/home/user", "/etc/shadow"]
    talking = talk([code(TRY.format(paths=paths, tool="keep")), "Ok."])
    talking.run()
    assert talking.text("output").count("cannot be kept") == len(paths)
    assert not list((talking.settings.home / "artifacts" / talking.session.id).glob("*"))


def test_who_looks_for_a_file_in_the_wrong_place_is_told_where_it_is(talk: Talking, folder: Path) -> None:
    host = folder / "clean" / "train.txt"
    talking = talk([code(f"open({str(host)!r})"), code("open('/nowhere/x.txt')"), "Ok."], cwd=folder)
    talking.run()
    first, second = [message["content"] for message in talking.server.messages() if "Traceback" in message["content"]]
    assert first.endswith(f"`fetch('{host}')` copies it into the sandbox.") and "fetch" not in second


def test_a_tool_that_misses_a_file_of_the_sandbox_says_how_to_give_it(talk: Talking, folder: Path) -> None:
    make = "open('made.jsonl', 'w').write('x')"
    talking = talk([code(f"{make}\nfetch('made.jsonl')"), code("fetch('none.jsonl')"), "Ok."], cwd=folder)
    talking.run()
    first, second = [message["content"] for message in talking.server.messages() if "ToolError" in message["content"]]
    assert "keep('made.jsonl')['path']" in first and "keep" not in second


def test_the_model_knows_both_names_of_a_file_from_elsewhere(talk: Talking, folder: Path, tmp_path: Path) -> None:
    talking = talk(["Ok."], cwd=folder)
    talking.session.run("Look.", [tmp_path / "elsewhere.txt", folder / "clean" / "train.txt"])
    told = talking.server.messages()[0]["content"]
    assert f"working folder: elsewhere.txt (for tools: {tmp_path}/elsewhere.txt), clean/train.txt\n" in told
