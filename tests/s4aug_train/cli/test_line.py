"""What a terminal is told is one line that it shows and does not obey."""

import pytest

from s4aug_train.cli.line import LONGEST, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Straße/été 1.tif: 50 %", "Straße/été 1.tif: 50 %"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31mred\x07\x9b", r"\x1b[31mred\x07\x9b"),
        ("\udcff.tif", r"\udcff.tif"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
    ],
)
def test_what_is_no_sign_is_written_out(text, line):
    assert one_line(text) == line


def test_a_long_text_keeps_its_beginning_and_its_cure():
    line = one_line(f"setting x {'9' * 10_000}; lower it")
    assert line.startswith("setting x 9")
    assert line.endswith("9; lower it")
    assert len(line) <= LONGEST
