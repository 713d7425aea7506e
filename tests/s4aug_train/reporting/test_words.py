"""Numbers in words."""

import pytest

from s4aug_train.reporting import words


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (words.percent(0.21934), "21.9\u202f%"),
        (words.percent(None), "\u2013"),
        (words.percent(float("nan")), "\u2013"),
        (words.points(0.0523), "+5.2"),
        (words.points(-0.0523), "\u22125.2"),
        (words.points(-0.0001), "0.0"),
        (words.p_text(0.0004), "p\u202f<\u202f0.001"),
        (words.p_text(0.0312), "p\u202f=\u202f0.031"),
        (words.whole(1234567), "1\u202f234\u202f567"),
        (words.number(-0.00012345), "\u22120.0001234"),
        (words.counted(1, "tile"), "1 tile"),
        (words.counted(0, "tile"), "0 tiles"),
        (words.shortened("supervised-10", 13), "supervised-10"),
        (words.shortened("supervised-100", 13), "superv\u2026ed-100"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.listed(["a"]), "a"),
    ],
)
def test_numbers_are_told_as_people_read_them(made, expected):
    assert made == expected
