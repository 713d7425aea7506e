"""The recording in the README: what the terminal of docs/ makes of bytes, and that the file is fit to be shown."""

import importlib.util
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECORDING = DOCS / "images" / "recording.svg"


def load_terminal():
    spec = importlib.util.spec_from_file_location("docs_terminal", DOCS / "terminal.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


terminal = load_terminal()


def lines_after(*parts: bytes, columns=8, rows=3) -> list[str]:
    screen = terminal.Terminal(columns, rows)
    for part in parts:
        screen.feed(part)
    return ["".join(cell.text for cell in line).rstrip() for line in screen.screen()]


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        ([b"one\r\ntwo"], ["one", "two", ""]),
        ([b"abcdefgh", b"\r\nx"], ["abcdefgh", "x", ""]),
        ([b"abcdefghij"], ["abcdefgh", "ij", ""]),
        ([b"1\r\n2\r\n3\r\n4"], ["2", "3", "4"]),
        ([b"old\rnew!"], ["new!", "", ""]),
        ([b"gone\r\x1b[2Kx"], ["x", "", ""]),
        ([b"abc\r\nbar\x1b[1A\rX\x1b[K"], ["X", "bar", ""]),
        ([b"\xc3", b"\xa9\x1b[3", b"1mx"], ["éx", "", ""]),
        ([b"\x1b[?25lx\x1b[?25h"], ["x", "", ""]),
    ],
)
def test_bytes_become_what_a_terminal_shows(parts, lines):
    assert lines_after(*parts) == lines


def test_colours_of_all_kinds_are_kept_until_they_are_reset():
    screen = terminal.Terminal(8, 1)
    screen.feed(b"\x1b[1;31ma\x1b[0mb\x1b[38;2;1;2;3mc\x1b[38;5;196;48;5;244md\x1b[97me")
    styles = [cell.style for cell in screen.screen()[0][:5]]
    assert styles[0] == terminal.Style(terminal.COLOURS[1], bold=True)
    assert styles[1] == terminal.Style()
    assert styles[2] == terminal.Style("#010203")
    assert styles[3] == terminal.Style("#ff0000", "#808080")
    assert styles[4] == terminal.Style(terminal.BRIGHT[7], "#808080")


def frames(*texts: bytes):
    made = []
    for text in texts:
        screen = terminal.Terminal(4, 2)
        screen.feed(text)
        made.append(terminal.Frame(screen.screen(), 0.5))
    return made


def test_the_picture_plays_all_frames_and_rests_on_the_last_for_who_wants_no_motion():
    svg = terminal.animated(frames(b"<a>", b"<a>\r\nb&"), "A < B")
    root = ElementTree.fromstring(svg)
    height = float(root.get("height"))
    assert f"0.000%{{transform:translateY(0px)}}50.000%{{transform:translateY({-height:g}px)}}" in svg
    assert f"reduce){{.reel{{animation:none;transform:translateY({-height:g}px)}}}}" in svg
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert texts == ["<a>", "b&"]  # the line of both frames is drawn once
    assert len([element for element in root.iter() if element.tag.endswith("}use")]) == 3


def test_the_recording_is_small_loads_nothing_and_names_nobodys_folders():
    svg = RECORDING.read_text()
    assert len(svg) < 200_000
    ElementTree.fromstring(svg)
    assert "<script" not in svg
    assert set(re.findall(r"https?://[^\"]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert set(re.findall(r'href="(.)', svg)) == {"#"}
    assert "prefers-reduced-motion" in svg
    assert not re.search(r"/(root|home|tmp|work)/", svg)
    for command in ("doctor", "fit", "evaluate", "predict"):
        assert command in svg
