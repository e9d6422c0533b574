"""What strangers write cannot reach the terminal, however it is cut into pieces, and no letter is lost."""

import itertools
import time

import pytest

from agent.cli.view.clean import Stream, clean, one_line, visible

HOSTILE = {
    "colour": ("a\x1b[31mb\x1b[0mc", "abc"),
    "clear the screen": ("a\x1b[2J\x1b[Hb", "ab"),
    "title": ("a\x1b]0;owned\x07b", "ab"),
    "link": ("\x1b]8;;http://bad.example\x1b\\here\x1b]8;;\x1b\\", "here"),
    "clipboard": ("\x1b]52;c;cm0gLXJmIC8=\x07x", "x"),
    "device string": ("\x1bPq#0;2;0;0;0\x1b\\x", "x"),
    "one byte introducer": ("a\x9b31mb\x9d0;t\x9cc", "abc"),
    "character set": ("a\x1b(0b", "ab"),
    "bell, backspace, null": ("a\x07b\x08c\x00d\x7f", "abcd"),
    "reversed reading": ("exe.\u202egpj", "exe.\\u202egpj"),
    "line separator": ("a\u2028b", "a\\u2028b"),
    "half a character": ("a\ud800b", "a\\ud800b"),
    "right to left letters": ("שלום עולם مرحبا", "שלום עולם مرحبا"),
    "emoji and accents": ("é 👩‍🔬 日本語\t|", "é 👩‍🔬 日本語\t|"),
    "windows lines": ("a\r\nb\r\n", "a\nb\n"),
    "a sequence that never ends": ("a\x1b[31", "a[31"),
    "a title that never ends": ("a\x1b]0;text", "a]0;text"),
}


@pytest.mark.parametrize(("hostile", "harmless"), HOSTILE.values(), ids=HOSTILE)
def test_controls_go_and_letters_stay(hostile: str, harmless: str) -> None:
    assert clean(hostile) == harmless


@pytest.mark.parametrize(("hostile", "harmless"), HOSTILE.values(), ids=HOSTILE)
def test_it_does_not_matter_where_streaming_cuts(hostile: str, harmless: str) -> None:
    for size in (1, 2, 3):
        stream = Stream()
        pieces = [hostile[at : at + size] for at in range(0, len(hostile), size)]
        assert "".join(map(stream.feed, pieces)) + stream.close() == harmless


def test_a_progress_bar_comes_out_once_as_it_ended() -> None:
    stream = Stream()
    assert stream.feed("\r  0%|    |") == ""
    assert stream.feed("\r 50%|##  |") == ""
    assert stream.over == " 50%|##  |"
    assert stream.feed("\r100%|####|\nnext") == "100%|####|\nnext"
    assert stream.over == ""


def test_a_progress_bar_behind_other_text_stands_on_a_line_of_its_own() -> None:
    assert clean("Loading\r 10%\rdone\n") == "Loading\ndone\n"


def test_an_escape_that_is_no_escape_holds_nothing_back_for_ever() -> None:
    stream = Stream()
    stream.feed("\x1b]")
    told = "".join(stream.feed("x" * 100) for _ in range(100))
    assert told.endswith("x" * 100)


def test_hostile_megabytes_take_no_longer_than_honest_ones() -> None:
    def seconds(text: str) -> float:
        start = time.perf_counter()
        clean(text)
        return time.perf_counter() - start

    honest = max(seconds("word " * 60_000), 0.01)
    for piece in ("\x9d", "\x1b]", "\x1b[", "\x1b[0;", "\x1b ", "\r", "\x1bP\x1b"):
        assert seconds(piece * (300_000 // len(piece))) < 100 * honest


def test_a_title_is_one_line_of_what_can_be_seen() -> None:
    assert one_line("a\n\tb\x1b[2J\u200bc") == "a b\\u200bc"
    assert one_line("abcdef", 4) == "abc…"


def test_nothing_invisible_is_left_in_what_a_person_decides_on() -> None:
    every = "".join(map(chr, itertools.chain(range(32), range(127, 160), (0x202E, 0x200B, 0xFEFF, 0xE0041))))
    assert all(c.isprintable() or c == "\n" for c in visible(every))
