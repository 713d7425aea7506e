import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from s4aug_train.cli.doctor import doctor as doctor_command
from s4aug_train.cli.doctor import print_report
from s4aug_train.config import DataConfig
from s4aug_train.data.layouts import choose_classes, find_tiles
from s4aug_train.data.palette import DEEPGLOBE, ClassEntry, ClassTable
from s4aug_train.doctor import Report, inspect, proposed_classes
from s4aug_train.errors import ConfigError
from tests.s4aug_train.command import failure

DATA = Path(os.environ.get("S4AUG_DATA", Path(__file__).parents[3] / "shared" / "data"))
TABLE = ClassTable((ClassEntry("a", value=1), ClassEntry("b", value=2), ClassEntry("unknown", value=0, ignored=True)))
DUBAI = """name,r,g,b
building,60,16,152
land,132,41,246
road,110,193,228
vegetation,254,221,58
water,226,169,41
unlabeled,155,155,155
"""


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three good pairs of 20 x 30 px; masks hold 0, 1 and 2."""
    rng = np.random.default_rng(0)
    for name in "xyz":
        save(tmp_path / f"images/{name}.png", rng.integers(0, 256, (20, 30, 3)).astype(np.uint8))
        save(tmp_path / f"masks/{name}.png", rng.integers(0, 3, (20, 30)).astype(np.uint8))
    return tmp_path


def examine(folder: Path, classes: ClassTable | None = TABLE, mismatch: str = "error") -> Report:
    return inspect(find_tiles(folder), classes, config=DataConfig(mismatch=mismatch))


def fatal(report: Report) -> str:
    return " | ".join(problem.what for problem in report.problems if problem.fatal)


def mask_pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "masks").iterdir())])


def test_a_good_folder_is_ok_and_its_shares_are_those_of_the_pixels(folder):
    report = examine(folder)
    pixels = mask_pixels(folder)
    assert report.ok
    assert [p for p in report.problems if "draws by default" not in p.what] == []
    assert (report.pairs, report.unlabelled, report.nodata_share) == (3, 0, 0.0)
    assert (report.sizes, report.bands, report.dtypes) == ({"20 x 30": 3}, {"3": 3}, {"uint8": 3})
    assert [entry.pixels for entry in report.classes] == [(pixels == 1).sum(), (pixels == 2).sum()]
    assert sum(entry.share for entry in report.classes) == pytest.approx(1)
    assert report.ignored_share == pytest.approx((pixels == 0).mean())
    assert [entry.tiles for entry in report.classes] == [3, 3]


def test_a_large_raster_in_strips_gives_the_same_figures(folder, monkeypatch):
    whole = examine(folder)
    monkeypatch.setattr("s4aug_train.data.raster.read_strips.__defaults__", (30 * 3 * 4,))
    assert examine(folder) == whole


def test_a_truncated_image_and_an_empty_mask_are_reported_not_raised(folder):
    path = folder / "images/x.png"
    path.write_bytes(path.read_bytes()[:700])
    (folder / "masks/y.png").write_bytes(b"")
    report = examine(folder)
    assert [Path(fault.path).name for fault in report.unreadable] == ["x.png", "y.png"]
    assert "0 bytes" in report.unreadable[1].reason
    assert not report.ok
    assert "2 files cannot be used: x.png, y.png" in fatal(report)


def test_a_mask_of_another_size_is_fatal_unless_cropped_or_skipped(folder):
    save(folder / "masks/x.png", np.ones((21, 30), np.uint8))
    report = examine(folder)
    assert [(m.id, m.image, m.mask) for m in report.mismatches] == [("x", (20, 30), (21, 30))]
    assert not report.ok
    assert "1 masks have another size" in fatal(report)
    cropped, skipped = examine(folder, mismatch="crop"), examine(folder, mismatch="skip")
    assert cropped.ok
    assert skipped.ok
    others = np.concatenate([np.asarray(Image.open(folder / f"masks/{name}.png")).ravel() for name in "yz"])
    assert skipped.classes[0].pixels == (others == 1).sum()
    assert cropped.classes[0].pixels == (others == 1).sum() + 20 * 30


def test_skipping_every_pair_is_fatal(folder):
    for name in "xyz":
        save(folder / f"masks/{name}.png", np.ones((21, 30), np.uint8))
    assert "no pair to learn from" in fatal(examine(folder, mismatch="skip"))


def test_off_palette_values_are_counted_with_examples_and_not_fatal(folder):
    mask = np.ones((20, 30), np.uint8)
    mask[3, :5] = 9
    save(folder / "masks/y.png", mask)
    report = examine(folder)
    assert [(s.item, s.pixels, s.tiles, s.examples) for s in report.off_palette] == [("9", 5, 1, ("y",))]
    assert report.ok
    assert "5 mask pixels are not in the class table" in report.problems[0].what


def test_of_a_colour_without_a_class_the_tile_with_the_most_of_it_is_named_first(folder):
    planted = {"x": 2, "y": 9, "z": 5}
    for name, count in planted.items():
        mask = np.ones((20, 30), np.uint8)
        mask[3, :count] = 9
        save(folder / f"masks/{name}.png", mask)
    report = examine(folder)
    (seen,) = report.off_palette
    assert (seen.pixels, seen.tiles, seen.examples, seen.most) == (16, 3, ("y", "z", "x"), 9)
    assert "9 in 3 masks, most in that of y (9 px)" in " ".join(problem.what for problem in report.problems)
    shown = io.StringIO()
    print_report(report, Console(file=shown))
    assert "y (9 px), z" in shown.getvalue()


def test_what_the_table_ignores_is_named(folder):
    assert examine(folder).ignored == ("unknown (0)",)
    assert examine(folder, None).ignored == ()
    both = ClassTable(
        (ClassEntry("a", (9, 9, 9), 1), ClassEntry("void", (0, 0, 0), 0, True), ClassEntry("b", (1, 1, 1), 7, True))
    )
    report = examine(folder, both)
    assert report.ignored == ("void (0 or 0,0,0)", "b (7 or 1,1,1)")
    shown = io.StringIO()
    print_report(report, Console(file=shown, width=120))
    assert "named in the class table: void (0 or 0,0,0), b (7 or 1,1,1)" in shown.getvalue()


def test_without_a_class_table_the_values_are_counted_and_proposed(folder):
    report = examine(folder, None)
    pixels = mask_pixels(folder)
    assert {seen.item: seen.pixels for seen in report.observed} == {str(v): (pixels == v).sum() for v in range(3)}
    assert "no class table" in fatal(report)
    proposal = proposed_classes(report)
    assert proposal is not None
    assert proposal.names == ("class_0", "class_1", "class_2")
    assert examine(folder, proposal).ok
    assert proposed_classes(examine(folder)) is None


def test_colours_are_proposed_too(folder):
    for name in "xyz":
        save(folder / f"masks/{name}.png", np.full((20, 30, 3), (9, 8, 7), np.uint8))
    proposal = proposed_classes(examine(folder, None))
    assert proposal == ClassTable((ClassEntry("class_9_8_7", (9, 8, 7)),))


def test_a_table_that_fits_no_mask_is_fatal(folder):
    wrong = ClassTable((ClassEntry("a", value=77),))
    assert "no class of the table occurs" in fatal(examine(folder, wrong))
    assert "files cannot be used" in fatal(examine(folder, DEEPGLOBE))


def test_a_class_that_never_occurs_is_named(folder):
    table = ClassTable((*TABLE.entries, ClassEntry("rare", value=5)))
    report = examine(folder, table)
    assert report.absent == ("rare",)
    assert report.ok
    assert "never occur: rare" in report.problems[0].what


def test_different_bands_or_types_are_fatal(folder):
    save(folder / "images/x.png", np.zeros((20, 30), np.uint8))
    save(folder / "images/y.png", np.zeros((20, 30), np.uint16))
    text = fatal(examine(folder))
    assert "different numbers of bands: 1 in 2 images, 3 in 1 images" in text
    assert "different types of pixels: uint8 in 2 images, uint16 in 1 images" in text


def test_files_without_a_partner_are_counted_and_not_fatal(folder):
    save(folder / "images/lonely.png", np.zeros((20, 30, 3), np.uint8))
    save(folder / "masks/orphan.png", np.zeros((20, 30), np.uint8))
    save(folder / "test/images/t.png", np.zeros((20, 30, 3), np.uint8))
    report = examine(folder)
    assert report.ok
    assert report.unlabelled == 2
    assert [Path(path).name for path in report.images_without_mask] == ["lonely.png"]
    assert [Path(path).name for path in report.orphan_masks] == ["orphan.png"]


def test_nodata_of_the_image_is_counted_and_ignored(folder):
    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:5] = 0
    for name in "xyz":
        image = np.asarray(Image.open(folder / f"images/{name}.png"))
        save(folder / f"images/{name}.png", np.dstack([image, alpha]))
    report = examine(folder)
    real = mask_pixels(folder)[:, 5:]
    assert report.nodata_share == pytest.approx(0.25)
    assert [entry.pixels for entry in report.classes] == [(real == 1).sum(), (real == 2).sum()]
    assert report.ignored_share == pytest.approx(0.25 + (real == 0).sum() / 1800)


def test_progress_counts_every_tile(folder):
    calls: list[tuple[int, int]] = []
    inspect(find_tiles(folder), TABLE, workers=3, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_the_report_is_json(folder):
    content = json.loads(json.dumps(examine(folder).to_dict()))
    assert content["ok"] is True
    assert content["classes"][0]["name"] == "a"


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(doctor_command, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout


def test_the_command_exits_with_the_verdict(folder):
    table = folder / "t.csv"
    code, text = command("--data", str(folder), "--write-classes", str(table))
    assert code == 1
    assert "Training would fail." in text
    assert "--classes FILE" in text
    assert f"3 classes proposed; name them in it, and give it as --classes {table}" in " ".join(text.split("\n"))
    code, text = command("--data", str(folder), "--classes", str(table))
    assert code == 0
    assert "--labeled 1 or fewer" in text
    code, text = command("--data", str(folder), "--classes", str(table), "--labeled", "3")
    assert code == 1
    assert "use --labeled 2 or fewer" in text
    code, text = command("--data", str(folder), "--classes", str(table), "--labeled", "2")
    assert code == 0
    assert "class_2" in text
    assert "Training can start." in text
    code, text = command("--data", str(folder), "--classes", str(table), "--labeled", "2", "--json")
    assert code == 0
    assert json.loads(text)["pairs"] == 3


def test_the_command_writes_groups_for_the_folder_of_the_data_and_spares_a_file_that_is_there(folder):
    for name in "xyz":
        save(folder / f"far/images/{name}.png", np.zeros((20, 30, 3), np.uint8))
    kept, place = folder / "mine.csv", folder / "tiles.csv"
    code, text = command("--data", str(folder), "--write-groups", str(kept), "--write-classes", str(folder / "t.csv"))
    assert code == 1
    assert f"{kept}: 6 tiles in 4 spatial groups by folder; where neighbours" in text
    assert kept.read_text().splitlines()[:3] == ["id,spatial_group", "far/x,far", "far/y,far"]
    _, text = command("--data", str(folder), "--write-groups", str(place))
    told = "6 tiles in 4 spatial groups by folder; where neighbours are in several, give them one name"
    assert text.splitlines()[-1] == f"{place}: {told}"
    with pytest.raises(ConfigError, match="--write-groups .*tiles.csv exists"):
        command("--data", str(folder), "--write-groups", str(place))


def test_groups_of_names_that_are_no_text_are_refused_in_one_line(folder):
    name = os.fsdecode(b"a\xff")
    try:
        for part in ("images", "masks"):
            (folder / part / "x.png").rename(folder / part / f"{name}.png")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    line = failure("doctor", "--data", folder, "--write-groups", folder / "tiles.csv")
    assert r"tiles.csv: a name in it is not UTF-8 (a\udcff,a\udcff); rename that file" in line
    assert not (folder / "tiles.csv").exists()


def test_what_is_written_is_told_beside_the_json(folder):
    arguments = ["--data", str(folder), "--json", "--write-classes", str(folder / "t.csv")]
    result = CliRunner().invoke(doctor_command, arguments, catch_exceptions=False)
    assert json.loads(result.stdout)["ok"] is False
    assert "3 classes proposed" in result.stderr


def test_colours_have_a_sample_that_only_terminals_show(folder):
    for name in "xyz":
        save(folder / f"masks/{name}.png", np.full((20, 30, 3), (9, 80, 7), np.uint8))
    report = examine(folder, None)
    plain, terminal = (
        Console(file=io.StringIO()),
        Console(file=io.StringIO(), force_terminal=True, color_system="truecolor"),
    )
    for console in (plain, terminal):
        print_report(report, console)
    assert "48;2;9;80;7m  " in terminal.file.getvalue()
    assert "\x1b" not in plain.file.getvalue()
    assert "9,80,7" in plain.file.getvalue()


@pytest.mark.parametrize("width", ["40", "100"])
def test_tables_fit_the_width_and_brackets_are_no_markup(folder, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    save(folder / "images/[bold]q.png", np.zeros((20, 30, 3), np.uint8))
    save(folder / "masks/[bold]q.png", np.zeros((22, 30), np.uint8))
    _, text = command("--data", str(folder))
    assert "[bold]q" in text
    tables = [line for line in text.splitlines() if line[:1] in "┃│┏└├┡"]
    assert max(len(line) for line in tables) <= int(width)


def real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"set S4AUG_DATA to the folder of {name}")
    return DATA / name


def test_sentinel2_masks_hold_five_values():
    report = examine(real("sentinel2"), None)
    assert {seen.item for seen in report.observed} == {"10", "30", "50", "70", "100"}
    assert all(seen.tiles == 6 for seen in report.observed)
    proposal = proposed_classes(report)
    assert proposal is not None
    assert proposal.names == ("class_10", "class_30", "class_50", "class_70", "class_100")


def by_pillow(path: Path | None) -> np.ndarray:  # [H, W, 3]
    assert path is not None
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_dubai_sizes_and_colours_are_those_that_pillow_counts(tmp_path):
    folder = real("dubai")
    (tmp_path / "dubai.csv").write_text(DUBAI)
    listing = find_tiles(folder)
    report = inspect(listing, choose_classes(listing, tmp_path / "dubai.csv"), config=DataConfig(mismatch="crop"))
    assert not report.unreadable
    differ, black, water = set(), 0, 0
    for tile in listing.labelled:
        image, mask = by_pillow(tile.image), by_pillow(tile.mask)
        if image.shape != mask.shape:
            differ.add(tile.id)
        shared = mask[: image.shape[0], : image.shape[1]]
        black += int((shared == 0).all(-1).sum())
        water += int((shared == (226, 169, 41)).all(-1).sum())
    assert {entry.id for entry in report.mismatches} == differ
    assert [(seen.item, seen.pixels) for seen in report.off_palette] == [("0,0,0", black)]
    assert report.classes[4].pixels == water


def test_the_report_tells_what_would_be_trained_on_and_held_out(demo_folder, tmp_path):
    import shutil

    report = inspect(find_tiles(demo_folder), DEEPGLOBE)
    assert (report.training, report.validation, report.held_out) == (9, 3, ())
    copy = shutil.copytree(demo_folder, tmp_path / "copy")
    ids = [tile.id for tile in find_tiles(copy).labelled]
    rows = [f"{tile},{i},{'val' if i < 5 else 'train'}" for i, tile in enumerate(ids)]
    (copy / "tiles.csv").write_text("\n".join(["id,spatial_group,split", *rows]))
    report = inspect(find_tiles(copy), DEEPGLOBE)
    assert (report.training, report.validation, report.held_out) == (7, 5, ("0", "1", "2", "3", "4"))
    (copy / "tiles.csv").write_text("id,group\n1,2\n")
    report = inspect(find_tiles(copy), DEEPGLOBE)
    assert not report.ok
    assert "tiles.csv" in report.problems[0].what


def test_validation_tiles_and_further_images_that_are_asked_for_are_looked_at(folder, tmp_path):
    TABLE.write(folder / "class_dict.csv")
    given = ("--data", str(folder))
    code, text = command(*given, "--val", "3")
    assert code == 1
    assert "the validation tiles leave no tile with a mask to train on" in text
    assert command(*given, "--val", "2")[0] == 0
    save(tmp_path / "more" / "new.png", np.zeros((20, 30), np.uint8))
    code, text = command(*given, "--unlabeled", str(tmp_path / "more"))
    assert code == 1
    assert "3 (3), 1 (1)" in text  # bands
    assert "no images" in failure("doctor", *given, "--unlabeled", tmp_path / "typo")
