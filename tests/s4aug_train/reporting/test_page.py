"""The page is well made: tags closed, ids unique, headings in order, all text escaped, nothing loaded from outside."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug_train.comparison import Comparison
from s4aug_train.reporting import page
from s4aug_train.reporting.gathered import Gathered, Run, Versus
from s4aug_train.reporting.result import verdict
from tests.s4aug_train.reporting import planted

VOID = {"meta", "link", "img", "br"}
EVIL = "<script>alert('x')</script>\"&"


class Checked(HTMLParser):
    """What is wrong with a page, and what is on it."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.faults, self.open, self.ids, self.wanted, self.headings = [], [], [], [], []
        self.tags, self.text, self.sections = [], [], {}
        self.feed(source)
        self.close()
        self.faults += [f"<{name}> is not closed" for name in self.open]
        self.faults += [f"the id {key} comes twice" for key in set(self.ids) if self.ids.count(key) > 1]
        self.faults += [f"nothing has the id {key}" for key in self.wanted if key not in self.ids]
        levels = [1, *self.headings]
        self.faults += [f"h{b} follows h{a}" for a, b in pairwise(levels) if b > a + 1]
        self.faults += ["not one h1"] if self.headings.count(1) != 1 else []

    def handle_starttag(self, name, attributes):
        given = dict(attributes)
        self.tags.append((name, given))
        if len(given) != len(attributes):
            self.faults.append(f"an attribute of <{name}> comes twice")
        if name not in VOID:
            self.open.append(name)
        self.ids += [given["id"]] if "id" in given else []
        self.wanted += given.get("aria-labelledby", "").split()
        if name in ("script", "iframe", "object", "embed") or any(key.startswith("on") for key in given):
            self.faults.append(f"<{name}> could run something")
        for key in ("href", "src", "data", "action", "xlink:href", "srcset"):
            target = given.get(key, "#main")
            if target.startswith("#"):
                self.wanted.append(target[1:])
            elif not target.startswith("data:"):
                self.faults.append(f"<{name} {key}={target}> loads or leads elsewhere")
        if name == "img" and not (given.get("alt") and given.get("width") and given.get("height")):
            self.faults.append("an img lacks its text or size")
        if name == "th" and given.get("scope") not in ("row", "col"):
            self.faults.append("a th has no scope")
        if len(name) == 2 and name[0] == "h" and name[1].isdigit():
            self.headings.append(int(name[1]))

    def handle_endtag(self, name):
        if not self.open or self.open.pop() != name:
            self.faults.append(f"</{name}> closes another")

    def handle_data(self, data):
        self.text.append(data)


def checked(gathered):
    found = Checked(page(gathered))
    assert found.faults == []
    return found


@pytest.fixture(scope="module")
def two():
    return planted.gathered()


def test_a_page_of_two_runs_has_every_part(two):
    found = checked(two)
    keys = [given["id"] for name, given in found.tags if name == "section"]
    parts = ["classes", "confusion", "boundaries", "calibration", "tiles", "label-next", "curves"]
    assert keys == ["result", *parts, "configuration", "environment"]
    charts = [given for name, given in found.tags if name == "svg" and given.get("class") == "chart"]
    assert all(given["role"] == "img" for given in charts)
    # IoU, boundary, reliability; seven curves with the method's own number; four of the machine, none skipped.
    assert len(charts) == 3 + 7 + 4
    text = " ".join(found.text)
    for told in (
        "ours compared with base",
        "supervised on 60 labelled tiles",
        "60 labelled tiles and 1\u202f562 unlab",
    ):
        assert told in text
    assert "not in the truth" in text
    assert found.tags[0] == ("html", {"lang": "en"})
    assert sum(name == "table" for name, _ in found.tags) == sum(name == "caption" for name, _ in found.tags)


def rows_of(source, caption):
    """The texts of a table's cells, by row."""
    body = source.partition(f"<caption>{caption}</caption>")[2].partition("</table>")[0]
    rows = [re.split(r"</t[hd]>", row)[:-1] for row in re.findall("<tr>(.*?)</tr>", body, re.DOTALL)]
    return [[html.unescape(re.sub("<[^>]+>", "", cell)) for cell in row] for row in rows]


def test_accuracies_of_users_and_producers_are_those_of_the_columns_and_rows_of_the_counts(two):
    rows = {name: cells for name, *cells in rows_of(page(two), "User&#x27;s and producer&#x27;s accuracy by class")}
    assert rows["class"] == ["base, user's", "base, producer's", "ours, user's", "ours, producer's"]
    counts = [sum(tile.confusion for tile in run.scores.assessment.tiles).tolist() for run in two.runs]
    for index, name in enumerate(planted.CLASSES):
        expected = []
        for table in counts:
            for whole, otherwise in (
                (sum(row[index] for row in table), "never predicted"),
                (sum(table[index]), "not in the truth"),
            ):
                expected.append(f"{100 * table[index][index] / whole:.1f}\u202f%" if whole else otherwise)
        assert rows[name] == expected
    overall = [f"{100 * sum(table[i][i] for i in range(3)) / sum(map(sum, table)):.1f}\u202f%" for table in counts]
    assert rows["overall accuracy"] == [overall[0], overall[0], overall[1], overall[1]]
    text = "".join(checked(two).text)
    assert all(f"overall accuracy {value}" in text for value in overall)
    assert rows["water"][1] == "not in the truth"


def test_a_class_that_is_never_predicted_has_no_users_accuracy():
    scores = planted.scores(2)
    for tile in scores.assessment.tiles:
        tile.confusion[:, 0] = 0
    source = page(planted.gathered(planted.run(scores=scores)))
    rows = {name: cells for name, *cells in rows_of(source, "User&#x27;s and producer&#x27;s accuracy by class")}
    assert rows["urban"] == ["never predicted", "0.0\u202f%"]


def test_a_title_of_the_users_stands_on_the_page_and_in_the_tab():
    named = replace(planted.gathered(), title=EVIL)
    found = Checked(page(named))
    assert found.faults == []
    assert found.text.count(EVIL) == 2
    assert "ours compared with base" not in "".join(found.text)


def test_a_tile_that_is_called_tile_is_not_called_so_twice():
    whole = planted.gathered()
    row, unsure = replace(whole.groups[0].rows[0], tile="Tile 3/part"), replace(whole.labelling.tiles[0], tile="tile9")
    labelling = replace(whole.labelling, tiles=(unsure, whole.labelling.tiles[1]))
    text = "".join(checked(replace(whole, groups=(replace(whole.groups[0], rows=(row,)),), labelling=labelling)).text)
    assert "Tile 3/part" in text
    assert "1. tile9" in text
    assert "tile tile" not in text.casefold()
    assert "Tile t03" in "".join(checked(whole).text)


def test_a_report_of_supervised_runs_alone_tells_of_no_unlabelled_images():
    alone = replace(planted.gathered(planted.run(lines=tuple(planted.lines(0, method="supervised")))), labelling=None)
    text = "".join(checked(alone).text)
    assert "supervised on 60 labelled tiles, encoder" in text
    assert "unlabelled" not in text.casefold()
    both = "".join(checked(planted.gathered()).text)
    assert "λ times that of the unlabelled images" in both
    last = rows_of(page(planted.gathered()), "Last values of metrics.jsonl")
    assert [row[1:] for row in last if row[0] == "λ"] == [["\u2013", "2"]]


def test_what_the_method_full_is_trained_on_is_told():
    text = "".join(checked(planted.gathered(planted.run(method="full"))).text)
    assert "full on 60 labelled tiles and those of 1\u202f562 others that have a mask" in text


def test_an_evaluation_of_few_tiles_is_told_with_the_result():
    text = "".join(checked(Gathered((planted.run(scores=planted.scores(1, tiles=2)),), subject=0)).text)
    assert "The evaluation rests on 2 tiles" in text
    assert "Fewer than 3 tiles hold urban (2 tiles) and field (2 tiles)" in text
    enough = "".join(checked(planted.gathered()).text)
    assert "rests on" not in enough
    assert "say little of" not in enough


def test_the_page_is_the_same_each_time(two):
    assert page(two) == page(two)


def test_the_browser_is_told_to_load_and_run_nothing(two):
    (policy,) = [given["content"] for _, given in checked(two).tags if "http-equiv" in given]
    assert policy.split("; ")[0] == "default-src 'none'"
    assert "script" not in policy
    style = page(two).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_everything_that_comes_from_users_is_escaped():
    base = planted.run(EVIL)
    values = dict.fromkeys(("data.path", "model.encoder", "method.name", EVIL), EVIL)
    ours = planted.run(
        EVIL + "2",
        2,
        "s4net",
        scores=planted.scores(2, classes=(EVIL, "b" + EVIL, "c")),
        settings={**planted.run().settings, **values},
        environment={EVIL: [EVIL], "torch": EVIL},
        path=EVIL,
        lines=({"step": 1, "loss": 1.0, EVIL: 0.5},),
        missing=EVIL,
    )
    whole = planted.gathered(base, ours)
    row = replace(whole.groups[0].rows[0], tile=EVIL, image=planted.picture(EVIL))
    labelling = replace(whole.labelling, tiles=tuple(replace(tile, tile=EVIL) for tile in whole.labelling.tiles))
    whole = replace(
        whole,
        versus=(Versus(1, None, EVIL),),
        colors={EVIL: (1, 2, 3)},
        groups=(replace(whole.groups[0], rows=(row,)),),
        labelling=labelling,
        notes=(EVIL,),
        version=EVIL,
    )
    assert "<script" not in page(whole)
    assert "".join(checked(whole).text).count(EVIL) > 30


@given(st.text(max_size=20))
@settings(max_examples=20)
def test_any_name_makes_a_sound_page(name):
    bare = Gathered((Run(name, name, settings={name: name}, lines=({"step": 3, name: 0.25},)),), notes=(name,))
    checked(bare)


@pytest.mark.parametrize(
    "runs",
    [
        (planted.run(),),
        (planted.run(scored=False, missing="It has no checkpoint yet."), planted.run("ours", 1, "s4net")),
        (planted.run(), planted.run("other", 1, scores=planted.scores(1, classes=("rock", "sand")))),
        (planted.run(lines=(), settings={}, environment={}, counts={}), planted.run("b", 1)),
        (planted.run(), planted.run("b", scores=planted.scores(1, tiles=1))),
        (planted.run(), planted.run("b", scores=planted.scores(1, classes=("only",)))),
    ],
    ids=["one run", "one without scores", "other classes", "one that cannot be read", "one tile", "one class"],
)
def test_runs_of_all_kinds_make_a_page(runs):
    whole = planted.gathered(*runs) if all(len(r.scores.assessment.tiles) == 12 for r in runs if r.scores) else None
    checked(whole or Gathered(runs, subject=1))


def test_nine_runs_have_nine_looks_and_a_table_of_all():
    runs = [planted.run(f"run-{number}", number % 4, "s4net") for number in range(9)]
    text = "".join(checked(planted.gathered(*runs)).text)
    assert "8 runs compared with run-0" in text
    assert "All runs" in text


def test_without_scores_there_is_a_page_of_curves_and_settings():
    found = checked(Gathered((planted.run(scored=False, step=None, missing="It has no checkpoint yet."),)))
    keys = [given["id"] for name, given in found.tags if name == "section"]
    assert keys == ["result", "curves", "configuration", "environment"]
    assert "It has no checkpoint yet." in found.text


def test_a_run_without_unlabelled_tiles_is_left_out_of_their_curves(two):
    text = " ".join(checked(two).text)
    assert "before it is weighted with λ. None: base." in text


def test_settings_that_differ_come_before_all_of_them(two):
    source = page(two)
    differing = source.partition("What differs: settings")[2].partition("</table>")[0]
    assert "method.name" in differing
    assert "model.encoder" not in differing
    assert "model.encoder" in source.partition("All settings")[2]


RUNS = (planted.run("base"), planted.run("ours", 1))


@pytest.mark.parametrize(
    ("found", "why", "told"),
    [
        (
            Comparison(0.052, (0.039, 0.063), 0.0002, 279),
            "",
            "On the same 279 held-out tiles, the mIoU of ours is 5.2 percentage points above that of base "
            "(95 % interval +3.9 to +6.3; p\u202f<\u202f0.001): more than the choice of tiles would bring by chance.",
        ),
        (
            Comparison(-0.01, (-0.03, 0.01), 0.4, 9),
            "of the 9 and 12 that they hold out",
            "On the same 9 held-out tiles (of the 9 and 12 that they hold out), the mIoU of ours is 1.0 percentage "
            "points below that of base (95 % interval \u22123.0 to +1.0; p\u202f=\u202f0.400): that may be chance, for "
            "the choice of tiles alone could bring as much.",
        ),
        (
            Comparison(0.0001, (-0.01, 0.01), 0.9, 1),
            "",
            "On the same 1 held-out tile, the mIoU of ours is the same as that of base (95 % interval \u22121.0 to "
            "+1.0; p\u202f=\u202f0.900).",
        ),
        (None, "their classes differ", "ours cannot be compared with base: their classes differ."),
        (Comparison(None, None, None, 3), "", "ours cannot be compared with base: the truth holds no class."),
    ],
)
def test_a_comparison_is_told_in_words(found, why, told):
    assert verdict(RUNS, Versus(1, found, why)) == told


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("<h1>a</h1><p>", "<p> is not closed"),
        ("<h1>a</h1><b></i>", "</i> closes another"),
        ("<h1>a</h1><h3>b</h3>", "h3 follows h1"),
        ("<h1 id=a>a</h1><p id=a></p>", "the id a comes twice"),
        ("<h1>a</h1><script></script>", "<script> could run something"),
        ("<h1>a</h1><img src=https://a.b/c>", "loads or leads elsewhere"),
        ("<h1>a</h1><a href=#b></a>", "nothing has the id b"),
    ],
)
def test_faults_of_a_page_are_found(source, fault):
    assert any(fault in each for each in Checked(source).faults)
