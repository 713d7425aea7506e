"""`s4aug-train evaluate`: what it takes, compares and refuses."""

import json

import numpy as np
import pytest

from tests.s4aug_train.command import call, failure


@pytest.mark.parametrize("what", ["", "checkpoints/last.pt", "checkpoints/best.pt"])
def test_evaluate_takes_a_run_or_a_checkpoint(run, demo_folder, what):
    result = json.loads(call("evaluate", run[0] / what, "--data", demo_folder, "--json").stdout)
    ours = {"miou", "iou", "confusion", "classes", "tiles", "accuracy", "never_predicted", "absent"}
    assert set(result) == ours | {"intervals", "boundary", "calibration", "ece", "comparison"}
    assert result["comparison"] is None
    low, high = result["intervals"]["miou"]
    assert low <= result["miou"] <= high
    assert result["tiles"] == 2
    assert len(result["confusion"]) == len(result["classes"]) == 6
    counts, names = np.array(result["confusion"]), np.array(result["classes"])
    assert result["accuracy"] == pytest.approx(np.diag(counts).sum() / counts.sum())
    assert result["never_predicted"] == list(names[counts.sum(0) == 0])
    assert result["absent"] == list(names[counts.sum(1) == 0])


def test_evaluate_of_the_last_checkpoint_is_the_last_line_of_metrics(run, demo_folder):
    result = json.loads(call("evaluate", run[0], "--data", demo_folder, "--json").stdout)
    last = json.loads((run[0] / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["iou"] == last["iou"]
    assert result["miou"] == last["miou"]
    # What fit printed last is of the same counts.
    assert f"overall accuracy {100 * result['accuracy']:.1f} %" in run[1].stdout
    never = [name for name in result["never_predicted"] if name not in result["absent"]]
    assert f"never predicted: {', '.join(never)}" in run[1].stdout
    assert never


def test_evaluate_uses_the_validation_tiles_of_a_manifest(run, demo_folder, tmp_path):
    manifest, val = tmp_path / "split.json", json.loads((run[0] / "splits.json").read_text())["val"]
    manifest.write_text(json.dumps({"labeled": [], "unlabeled": [], "val": val[:1]}))
    table = call("evaluate", run[0], "--data", demo_folder, "--split", manifest)
    assert "1 tiles" in table.stdout


def test_evaluate_takes_all_labelled_tiles_of_a_folder_that_was_not_trained_on(run, demo_folder, demo_copy):
    found = json.loads(call("evaluate", run[0], "--data", demo_copy, "--split", "all", "--json").stdout)
    assert found["tiles"] == len(list((demo_copy / "train").glob("*_mask.png"))) == 12
    assert "all: 10 of its 12" in failure("evaluate", run[0], "--data", demo_folder, "--split", "all")


def test_evaluate_compares_two_checkpoints_and_writes_what_it_prints(run, demo_folder, tmp_path):
    best, out = run[0] / "checkpoints" / "best.pt", tmp_path / "new" / "e.json"
    both = ["evaluate", run[0], "--data", demo_folder, "--against", best]
    told = json.loads(call(*both, "--json", "--out", out).stdout)
    assert told == json.loads(out.read_text())
    assert told["comparison"]["against"] == str(best)
    assert (told["comparison"]["tiles"], told["comparison"]["shown"]) == (2, False)
    text = call(*both, "--confusion", "--smooth").stdout
    assert "against" in text
    assert "no difference is shown" in " ".join(text.split())
    assert "confusion, % of the pixels" in text


def test_evaluate_averages_views(run, demo_folder):
    plain, flips = (
        json.loads(call("evaluate", run[0], "--data", demo_folder, "--json", *more).stdout)
        for more in ([], ["--tta", "flips"])
    )
    assert plain["ece"] != flips["ece"]
    assert "flips or affine:K" in failure("evaluate", run[0], "--data", demo_folder, "--tta", "flip")


def test_evaluate_refuses_a_checkpoint_that_was_trained_on_the_tiles(run, demo_folder, tmp_path):
    from dataclasses import replace

    from s4aug_train.data.split import Split
    from s4aug_train.engine import Checkpoint

    checkpoint = Checkpoint.read(run[0] / "checkpoints" / "last.pt")
    split = checkpoint.split
    turned = Split((*split.labeled[1:], split.val[0]), split.unlabeled, (*split.val[1:], split.labeled[0]))
    replace(checkpoint, split=turned).write(tmp_path / "other.pt")
    line = failure("evaluate", run[0], "--data", demo_folder, "--against", tmp_path / "other.pt")
    assert (
        f"1 of its 2 validation tiles, for example {split.val[0]}, were trained on by {tmp_path / 'other.pt'}" in line
    )


def test_evaluate_refuses_settings_that_have_no_say(run, demo_folder):
    line = failure("evaluate", run[0], "--data", demo_folder, "--set", "model.encoder=resnet50")
    assert "model.encoder has no say in an evaluation: it is resnet18 in the checkpoint" in line
    assert "train.window" in line
    # What says the same as the checkpoint is no harm.
    call("evaluate", run[0], "--data", demo_folder, "--set", "model.encoder=resnet18", "--set", "train.stride=32")


def test_evaluate_tells_a_wrong_path(run, demo_folder, tmp_path):
    assert "does not exist" in failure("evaluate", run[0], "--data", demo_folder, "--against", tmp_path / "no")
    assert "is a folder" in failure("evaluate", run[0], "--data", demo_folder, "--out", tmp_path)
    assert "cannot write" in failure("evaluate", run[0], "--data", demo_folder, "--out", "/proc/e.json")


def test_evaluate_refuses_tiles_that_were_trained_on(run, demo_folder, tmp_path):
    manifest, split = tmp_path / "split.json", json.loads((run[0] / "splits.json").read_text())
    manifest.write_text(json.dumps({"labeled": [], "unlabeled": [], "val": split["val"] + split["labeled"][:1]}))
    line = failure("evaluate", run[0], "--data", demo_folder, "--split", manifest)
    assert split["labeled"][0] in line
    assert "trained on" in line
