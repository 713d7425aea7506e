import shutil
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from s4aug_train import api
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.data.split import Split
from s4aug_train.engine import Checkpoint, choose_device, chosen_precision, environment
from s4aug_train.errors import CheckpointError, ConfigError, DataError
from s4aug_train.presets import preset
from s4aug_train.records import EvaluationRecord, Note, StepRecord
from s4aug_train.run import RunFolder
from s4aug_train.training import training


@pytest.fixture(scope="module")
def config(demo_folder):
    return preset("quick").updated(
        {
            "data.path": str(demo_folder),
            "data.labeled": 4,
            "model.weights": "none",
            "train.steps": 2,
            "train.crop": 64,
            "train.log_every": 1,
            "train.window": 64,
            "train.stride": 64,
        }
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory, shared_cache):
    run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    return run, list(training(config, run))


def last_evaluation(records):
    return [record for record in records if isinstance(record, EvaluationRecord)][-1]


def test_fit_yields_what_it_writes(finished):
    run, records = finished
    assert [type(record) for record in records].count(StepRecord) == 2
    assert last_evaluation(records).step == 2
    assert len(run.metrics.read_text().splitlines()) == len([r for r in records if not isinstance(r, Note)])
    assert "tiles" in next(record.text for record in records if isinstance(record, Note))


def test_evaluation_of_the_checkpoint_is_that_of_the_run(finished):
    run, records = finished
    again = api.evaluate(run.path, {})
    assert again == last_evaluation(records)


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"


@pytest.mark.parametrize(("has", "chosen"), [(True, torch.bfloat16), (False, None)])
def test_bf16_is_chosen_where_the_gpu_has_it_and_not_where_it_is_imitated(monkeypatch, has, chosen):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation)
    assert chosen_precision("auto", torch.device("cuda")) is chosen


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_an_impossible_device_is_refused(name):
    with pytest.raises(ConfigError, match="device|no cuda"):
        choose_device(name)


def edited(run, **changes):
    return replace(Checkpoint.read(run.last), **changes)


def test_resume_refuses_another_split_or_other_classes(finished, config):
    run, _ = finished
    split = Checkpoint.read(run.last).split
    other = Split(split.labeled[1:], (*split.unlabeled, split.labeled[0]), split.val)
    with pytest.raises(CheckpointError, match="split"):
        list(training(config, run, resume=edited(run, split=other)))
    table = ClassTable(tuple(ClassEntry(f"class {i}", value=i) for i in range(6)))
    with pytest.raises(CheckpointError, match=r"classes \(was class 0"):
        list(training(config, run, resume=edited(run, classes=table)))


def test_resume_may_change_what_does_not_matter(finished, config):
    run, _ = finished
    changed = config.updated({"train.workers": 0, "train.log_every": 7, "train.device": "cpu", "train.pool": "map"})
    assert all(isinstance(record, Note) for record in training(changed, run, resume=edited(run)))


def test_a_refused_resume_leaves_the_run_as_it_was(finished, config):
    run, _ = finished
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"train\.lr"):
        list(training(config.updated({"train.lr": 0.5}), run, resume=edited(run)))
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_checkpoint_that_a_run_goes_on_from_stays_as_it_was(finished, config, tmp_path):
    run, _ = finished
    early = edited(run, step=0)
    before = deepcopy(early.training)
    list(training(config, RunFolder(tmp_path / "run"), resume=early))
    states = zip(early.training["optimizer"]["state"].values(), before["optimizer"]["state"].values(), strict=True)
    assert all(torch.equal(now["momentum_buffer"], then["momentum_buffer"]) for now, then in states)


def test_data_of_other_bands_is_refused(finished, tmp_path):
    from s4aug_train.data.palette import DEEPGLOBE
    from s4aug_train.data.raster import write_image

    run, _ = finished
    for tile in Checkpoint.read(run.last).split.val:
        write_image(tmp_path / "images" / f"{tile}.png", np.zeros((1, 32, 32), np.uint8))
        write_image(tmp_path / "masks" / f"{tile}.png", np.zeros((3, 32, 32), np.uint8))
    DEEPGLOBE.write(tmp_path / "class_dict.csv")
    with pytest.raises(DataError, match="has 1 bands of uint8, the checkpoint was trained on 3"):
        api.evaluate(run.path, {"data.path": str(tmp_path)})


def test_the_environment_names_versions_and_machine():
    facts = environment(torch.device("cpu"))
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert {"s4aug", "python", "platform", "device", "threads", "kornia", "numpy", "rasterio"} <= set(facts)


@pytest.mark.parametrize("name", ["mps", "meta", "xpu"])
def test_devices_that_are_not_supported_are_refused(name):
    with pytest.raises(ConfigError, match="auto, cpu, cuda"):
        choose_device(name)


def test_masks_are_read_by_the_datas_own_table(finished, demo_folder, tmp_path):
    from s4aug_train.data.palette import DEEPGLOBE, ClassTable
    from s4aug_train.data.raster import read_image, write_image

    run, records = finished
    copy = shutil.copytree(demo_folder, tmp_path / "copy")
    # The same truth in other colours.
    entries = [replace(e, color=tuple(30 + 200 * c // 255 for c in e.color)) for e in DEEPGLOBE.entries]
    ClassTable(tuple(entries)).write(copy / "class_dict.csv")
    for mask in (copy / "train").glob("*_mask.png"):
        pixels = (30 + 200 * (read_image(mask).astype(int) // 255)).astype(np.uint8)
        mask.unlink()
        write_image(mask, pixels)
    again = api.evaluate(run.path, {"data.path": str(copy)})
    assert again.confusion == last_evaluation(records).confusion


@pytest.mark.parametrize("wrong", ["colours", "names"])
def test_masks_of_the_runs_own_data_are_read_as_in_training(config, demo_folder, tmp_path, wrong):
    """The folder's table is wrong, and another one was given to train with."""
    data, table = shutil.copytree(demo_folder, tmp_path / "data"), tmp_path / "right.csv"
    right = ClassTable.read(data / "class_dict.csv")
    right.write(table)
    turned = [entry.color for entry in right.entries[1:]] + [right.entries[0].color]
    entries = [
        replace(entry, color=color) if wrong == "colours" else replace(entry, name=f"no_{entry.name}")
        for entry, color in zip(right.entries, turned, strict=True)
    ]
    ClassTable(tuple(entries)).write(data / "class_dict.csv")
    run = RunFolder(tmp_path / "run")
    records = list(training(config.updated({"data.path": str(data), "data.classes": str(table)}), run))
    assert api.evaluate(run.path, {}) == last_evaluation(records)
    assert api.evaluate(run.path, {"data.path": f"{data}/"}) == last_evaluation(records)
    given = {"data.classes": str(data / "class_dict.csv")}
    if wrong == "names":
        with pytest.raises(CheckpointError, match="no_urban_land"):
            api.evaluate(run.path, given)
    else:
        assert api.evaluate(run.path, given).confusion != last_evaluation(records).confusion


def test_another_spelling_of_the_path_does_not_hide_trained_tiles(finished, demo_folder, tmp_path):
    import json

    run, _ = finished
    seen = Checkpoint.read(run.last).split.labeled[:1]
    manifest = tmp_path / "m.json"
    manifest.write_text(json.dumps({"labeled": [], "unlabeled": [], "val": list(seen)}))
    with pytest.raises(DataError, match="were trained on"):
        api.evaluate(run.path, {"data.path": f"{demo_folder}/../{demo_folder.name}/"}, split=str(manifest))


@pytest.fixture
def mapped(config, tmp_path, monkeypatch):
    """Settings of a run that reads the map of a cache of its own."""
    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "cache"))
    given = {"train.pool": "map", "train.workers": 0, "train.steps": 40, "data.labeled": 4, "data.unpaired": False}
    return config.updated({**given, "method.name": "supervised"})


def spoil(cache, sources):
    """Delete the decoded pixels of some files."""
    for entry in cache.rglob("entry.json"):
        if any(source in entry.read_text() for source in sources):
            (entry.parent / "pixels.npy").unlink()


def spoiling(records, cache, chosen):
    """The records of a run whose cache loses entries after the first step."""
    for record in records:
        yield record
        if isinstance(record, StepRecord) and record.step == 1:
            spoil(cache, chosen)


def test_a_tile_of_the_cache_that_vanishes_while_training_is_fatal_and_named(mapped, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DataError, match=r"tile .*: the cache entry .* of .*_sat\.jpg is damaged.*data.unreadable=skip"):
        list(spoiling(training(mapped, run), tmp_path / "cache", ["_sat"]))


def test_tiles_of_the_cache_that_vanish_while_training_are_left_out_on_demand(mapped, tmp_path):
    run = RunFolder(tmp_path / "run")
    records = training(mapped.updated({"data.unreadable": "skip"}), run)
    first = [next(records)]
    split = Split.read(run.split)
    chosen = [split.labeled[0], split.val[0]]
    records = list(spoiling(records, tmp_path / "cache", [f"{name}_sat" for name in chosen]))
    texts = [record.text for record in [*first, *records] if isinstance(record, Note)]
    for name in chosen:
        assert sum(f"tile {name}: the cache entry" in text for text in texts) == 1
    assert last_evaluation(records).tiles == len(split.val) - 1
    assert [record.step for record in records if isinstance(record, StepRecord)] == list(range(1, 41))


def deleting(records, cache):
    """The records of a run whose cache is deleted in the middle."""
    for record in records:
        yield record
        if isinstance(record, StepRecord) and record.step == 3:
            shutil.rmtree(cache)


def test_a_cache_that_is_deleted_ends_a_run_that_goes_on_as_if_nothing_had_happened(mapped, tmp_path):
    config = mapped.updated({"train.steps": 6, "train.checkpoint_every": 2})
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    list(training(config, whole))
    with pytest.raises(DataError, match=r"tile .*: the cache entry .* of .*_sat\.jpg is gone; start again"):
        list(deleting(training(config, run), tmp_path / "cache"))
    assert Checkpoint.read(run.last).step == 2
    list(training(config, run, resume=Checkpoint.read(run.last)))
    ended, expected = (Checkpoint.read(each.last) for each in (run, whole))
    assert ended.step == expected.step == 6
    for name, value in expected.network.items():
        assert torch.equal(ended.network[name], value), name


def test_a_run_of_which_no_tile_is_left_ends(mapped, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DataError, match="none of the tiles can be read; one of them: tile"):
        list(spoiling(training(mapped.updated({"data.unreadable": "skip"}), run), tmp_path / "cache", ["_sat"]))


def test_a_run_goes_on_without_a_file_that_was_damaged_meanwhile(mapped, demo_folder, tmp_path):
    copy = shutil.copytree(demo_folder, tmp_path / "copy")
    run = RunFolder(tmp_path / "run")
    config = mapped.updated({"data.path": str(copy)})
    records = []
    list(training(config, run, should_stop=lambda: True))
    lost = Split.read(run.split).labeled[0]
    image = next(copy.rglob(f"{lost.split('/')[-1]}_sat.*"))
    image.write_bytes(image.read_bytes()[:99])
    with pytest.raises(DataError, match="cannot be read"):
        list(training(config, run, resume=Checkpoint.read(run.last)))
    more = {"data.unreadable": "skip", "data.split": str(run.split)}
    records = list(training(config.updated(more), run, resume=Checkpoint.read(run.last)))
    assert any(isinstance(record, Note) and str(image) in record.text for record in records)
    assert last_evaluation(records).step == 40
