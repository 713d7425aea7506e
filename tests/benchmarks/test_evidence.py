import dataclasses
import json
import shlex
import statistics
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

import s4aug_train
from benchmarks import evidence
from benchmarks.arms import COMMON, arms
from benchmarks.evaluated import Evaluated, from_csv, of_runs, to_csv
from benchmarks.evidence import MARKS, NUMBERS, PAGE, PICTURE, commands, halve, picture, section, tables

STEPS = int(COMMON["train.steps"])
MADE = [
    Evaluated("supervised", 0, 1000, 9.0, {"urban": 8.0, "water": 10.0}),
    Evaluated("supervised", 0, STEPS, 10.0, {"urban": 12.0, "water": 8.0}),
    Evaluated("supervised", 1, STEPS, 14.0, {"urban": 18.0, "water": 10.0}),
    Evaluated("s4net", 0, STEPS, 13.0, {"urban": 14.0, "water": 12.0}),
    Evaluated("s4net", 1, STEPS, 15.0, {"urban": 20.0, "water": 10.0}),
    Evaluated("sup+affine", 1, 1000, 13.0, {"urban": 14.0, "water": 12.0}),
    Evaluated("sup+affine", 1, STEPS, 14.5, {"urban": 17.0, "water": 12.0}),
]


def test_every_arm_is_a_run_of_its_own_that_fit_accepts():
    configs = []
    for arm in arms():
        words = shlex.split(arm.command(Path("data"), Path("runs"), 3))
        assert words[:3] == ["s4aug-train", "fit", "--data"]
        given = dict(word.split("=", 1) for word, before in zip(words[1:], words, strict=False) if before == "--set")
        method, labeled = words[words.index("--method") + 1], int(words[words.index("--labeled") + 1])
        configs.append(s4aug_train.configured(given | {"method.name": method, "data.labeled": labeled}))
    assert len({json.dumps(dataclasses.asdict(config), sort_keys=True) for config in configs}) == len(arms())


def test_commands_go_seed_by_seed_and_refuse_what_is_no_arm():
    found = list(commands(Path("data"), Path("runs"), ["supervised", "s4net"], [0, 1]))
    folders = [shlex.split(line)[5] for line in found]
    assert folders == ["runs/supervised-0", "runs/s4net-0", "runs/supervised-1", "runs/s4net-1"]
    with pytest.raises(SystemExit, match="no arm is named s5net"):
        list(commands(Path("data"), Path("runs"), ["s5net"], [0]))


def test_numbers_are_read_as_they_were_written():
    assert from_csv(to_csv(MADE)) == MADE


def test_runs_count_when_they_are_finished(tmp_path):
    for name, steps in {"s4net-0": (1000, STEPS), "s4net-1": (1000,), "s4net-nomask-0": (STEPS,)}.items():
        (tmp_path / name).mkdir()
        lines = [{"step": step, "miou": 0.25, "iou": {"urban": 0.5}} for step in steps]
        content = [{"step": 50, "loss": 1.0}, *lines]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
    found = of_runs(tmp_path, ["s4net", "s4net-nomask"], STEPS)
    assert [(one.arm, one.seed, one.step) for one in found] == [
        ("s4net", 0, 1000),
        ("s4net", 0, STEPS),
        ("s4net-nomask", 0, STEPS),
    ]
    assert found[0].miou == 25
    assert found[0].iou == {"urban": 50}


def test_gains_are_taken_seed_by_seed():
    rows = list(tables(MADE))
    assert f"| s4net | 13.00 | 15.00 | 14.00 ± {statistics.stdev([13, 15]):.2f} | 2.00 ± 1.41 | 0.50 |" in rows
    assert "| supervised | 10.00 | 14.00 | 12.00 ± 2.83 |  | -0.50 |" in rows
    assert "| sup+affine |  | 14.50 | 14.50 | 0.50 |  |" in rows
    assert rows[-4:] == [
        f"| minus supervised after | 1000 steps | {STEPS} steps |",
        "|---|---|---|",
        "| s4net |  | 2.00 ± 1.41 |",
        "| sup+affine |  | 0.50 |",
    ]
    assert "| supervised | 15.00 ± 4.24 | 9.00 ± 1.41 |" in rows


def test_the_picture_has_a_point_for_each_run():
    drawn = ElementTree.fromstring(picture(MADE))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == 5


def test_runs_that_are_elsewhere_stay_known(tmp_path, monkeypatch):
    for name in ("NUMBERS", "PAGE", "PICTURE"):
        monkeypatch.setattr(evidence, name, tmp_path / name)
    (tmp_path / "PAGE").write_text("<!-- evidence -->\nold\n<!-- end of evidence -->")
    gained = {("s4net", 0): 0.13, ("supervised", 0): 0.10, ("supervised", 1): 0.14}
    for number, ((arm, seed), miou) in enumerate(gained.items()):
        folder = tmp_path / f"runs{number}" / f"{arm}-{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(
            json.dumps({"step": STEPS, "miou": miou, "iou": {"urban": miou}}) + '\n{"step": 1'
        )
        evidence.gather(folder.parent)
    found = from_csv((tmp_path / "NUMBERS").read_text())
    assert [(one.arm, one.seed, one.miou) for one in found] == [
        ("supervised", 0, 10),
        ("supervised", 1, 14),
        ("s4net", 0, 13),
    ]
    assert "| s4net | 13.00 |  | 13.00 | 3.00 |  |" in (tmp_path / "PAGE").read_text()
    with pytest.raises(SystemExit, match="no run in .* is finished"):
        evidence.gather(tmp_path)


def test_the_page_and_its_picture_are_those_of_the_numbers():
    evaluated = from_csv(NUMBERS.read_text())
    (found,) = MARKS.finditer(PAGE.read_text())
    assert found[0].removeprefix(found[1]).removesuffix(found[2]) == section(evaluated)
    assert PICTURE.read_text() == picture(evaluated)


def test_halved_masks_hold_no_new_colours_and_images_are_means(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "from" / "train").mkdir(parents=True)
    for name in ("tiles.csv", "class_dict.csv"):
        (tmp_path / "from" / name).write_text("")
    image, mask = rng.integers(0, 256, (8, 6, 3), np.uint8), rng.integers(0, 2, (8, 6, 3), np.uint8) * 255
    cv2.imwrite(str(tmp_path / "from" / "train" / "a_sat.png"), image)
    cv2.imwrite(str(tmp_path / "from" / "train" / "a_mask.png"), mask)
    halve(tmp_path / "from", tmp_path / "to")
    means = image.reshape(4, 2, 3, 2, 3).mean((1, 3))
    assert np.abs(cv2.imread(str(tmp_path / "to" / "train" / "a_sat.png")) - means).max() <= 0.5
    assert np.array_equal(cv2.imread(str(tmp_path / "to" / "train" / "a_mask.png")), mask[::2, ::2])
