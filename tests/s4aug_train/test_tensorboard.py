"""What TensorBoard reads of a run is what metrics.jsonl holds, each step once, and the run is the same without it."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import s4aug_train
from s4aug_train import tensorboard, training
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.data.pool import Pool
from s4aug_train.engine import Checkpoint, Loader, TrainingState
from s4aug_train.errors import ConfigError, S4AugTrainError
from s4aug_train.methods import Setup, make_method
from s4aug_train.presets import configured
from s4aug_train.records import MetricsFile, Note
from s4aug_train.run import RunFolder
from s4aug_train.tensorboard import Board, judging, state_panel

SMALL = {
    "model.weights": "none",
    "train.steps": 6,
    "train.crop": 64,
    "train.log_every": 1,
    "train.workers": 0,
    "train.window": 64,
    "train.stride": 64,
    "train.device": "cpu",
    "train.evaluate_every": 3,
    "train.tensorboard": True,
}
CLASSES = ("field", "forest", "wet land/water")


@pytest.fixture
def read():
    """A function that reads a run's event files as TensorBoard does: its tags, with steps and values."""
    module = "tensorboard.backend.event_processing.event_accumulator"
    pytest.importorskip(module, reason="needs the extra: pip install 's4aug[tensorboard]'")
    accumulator = importlib.import_module(module)

    def read(run):
        events = accumulator.EventAccumulator(str(run.tensorboard), {"scalars": 0, "images": 0, "tensors": 0})
        events.Reload()
        tags = events.Tags()
        scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]}
        pictures = {tag: [event.step for event in events.Images(tag)] for tag in tags["images"]}
        texts = {tag: [e.tensor_proto.string_val[0].decode() for e in events.Tensors(tag)] for tag in tags["tensors"]}
        return scalars, pictures, texts

    return read


@pytest.fixture
def own_data():
    def tiles(count, seed):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (count, 3, 80, 90), generator=generator, dtype=torch.uint8)
        return TensorDataset(images, torch.randint(0, 2, (count, 80, 90), generator=generator))

    return s4aug_train.OwnData(CLASSES, tiles(5, 0), tiles(2, 1), tiles(6, 2))


@pytest.fixture
def fit(own_data):
    """A function that trains a small network with BatchNorm and dropout."""

    def fit(out, settings=None, **options):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(8, 3, 1)
        )
        config = configured({**SMALL, **(settings or {})})
        return s4aug_train.fit(config, out=out, model=network, dataset=own_data, **options).run

    return fit


def lines_of(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def steps_of(scalars, tag):
    return [step for step, _ in scalars[tag]]


def test_all_numbers_of_metrics_jsonl_are_there_and_one_picture_an_evaluation(fit, read, tmp_path):
    run = fit(tmp_path / "run")
    scalars, pictures, texts = read(run)
    lines = lines_of(run)
    training_lines = [line for line in lines if "miou" not in line]
    assert len(training_lines) == 6
    for name in training_lines[0].keys() - {"step"}:
        expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in training_lines]
        assert scalars[f"train/{name}"] == expected
    evaluations = [line for line in lines if "miou" in line]
    assert steps_of(scalars, "val/miou") == [line["step"] for line in evaluations] == [3, 6]
    for name in CLASSES[:2]:
        expected = [(line["step"], pytest.approx(line["iou"][name], rel=1e-6)) for line in evaluations]
        assert scalars[f"val/iou/{name}"] == expected
    assert f"val/iou/{CLASSES[2]}" not in scalars  # the truth does not hold it
    assert pictures == {"views": [3, 6]}
    assert texts == {"notes/text_summary": ["tiles read from datasets given in Python, in the training loop"]}


@pytest.mark.parametrize(
    "settings",
    [
        {"method.name": "s4net", "method.jitter": 0.5, "method.source": "tile"},
        {"method.name": "mean-teacher", "method.evaluate": "teacher"},
        {"method.name": "fixmatch"},
        {"method.name": "vat+affine"},
        {"method.name": "supervised"},
    ],
    ids=lambda settings: settings["method.name"],
)
def test_a_run_is_the_same_to_the_bit_with_and_without(settings, fit, read, tmp_path):
    runs = [fit(tmp_path / str(on), {**settings, "train.tensorboard": on}) for on in (True, False)]
    watched, plain = (Checkpoint.read(run.last) for run in runs)
    assert watched.network.keys() == plain.network.keys()
    assert all(torch.equal(value, plain.network[key]) for key, value in watched.network.items())
    assert read(runs[0])[1] == ({} if settings["method.name"] == "supervised" else {"views": [3, 6]})
    assert not runs[1].tensorboard.exists()


@pytest.mark.parametrize("killed_at", ["step", "evaluation"])
def test_steps_of_a_killed_run_do_not_appear_twice(killed_at, fit, read, tmp_path):
    settings = {"train.checkpoint_every": 4}

    def kill(record):
        # A checkpoint is written at step 4; and before the evaluation of step 6, but not after it.
        if killed_at == "step" and record.__class__.__name__ == "StepRecord" and record.step == 6:
            raise KeyboardInterrupt
        if killed_at == "evaluation" and record.__class__.__name__ == "EvaluationRecord" and record.step == 6:
            raise KeyboardInterrupt

    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit(run.path, settings, on_record=kill)
    assert steps_of(read(run)[0], "train/loss")[-1] == 6
    fit(run.path, settings, resume=True)
    assert len(run.events()) == 2
    scalars, pictures, _ = read(run)
    assert steps_of(scalars, "train/loss") == [1, 2, 3, 4, 5, 6]
    assert steps_of(scalars, "val/miou") == [3, 6]
    assert pictures == {"views": [3, 6]}
    losses = [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in lines_of(run) if "loss" in line]
    assert scalars["train/loss"] == losses


def test_switched_on_later_it_shows_the_run_from_its_beginning(fit, read, tmp_path):
    seen = []
    stop = {"on_record": seen.append, "should_stop": lambda: len(seen) > 4}
    run = fit(tmp_path / "run", {"train.tensorboard": False}, **stop)
    assert not run.tensorboard.exists()
    fit(run.path, resume=True)
    scalars, pictures, _ = read(run)
    assert steps_of(scalars, "train/loss") == [1, 2, 3, 4, 5, 6]
    assert steps_of(scalars, "val/miou") == [3, 6]
    assert pictures == {"views": [6]}


def test_a_run_that_is_given_up_takes_its_events_with_it_and_nothing_else(fit, read, tmp_path):
    run = fit(tmp_path / "run")
    (old,) = run.events()
    (run.tensorboard / "notes.txt").write_text("mine")
    fit(run.path, {"train.steps": 3}, overwrite=True)
    assert not old.exists()
    assert len(run.events()) == 1
    assert (run.tensorboard / "notes.txt").exists()
    assert steps_of(read(run)[0], "train/loss") == [1, 2, 3]


def test_a_last_record_cut_short_by_a_kill_loses_no_other(read, tmp_path):
    run = RunFolder(tmp_path)
    MetricsFile(run.metrics)
    Board(run).append(Note("first"))
    with run.events()[0].open("ab") as file:
        file.write(b"\x18\x00\x00")
    Board(run).append(Note("second"))
    assert read(run)[2] == {"notes/text_summary": ["first", "second"]}


def test_a_missing_package_is_told_before_anything_is_decoded(fit, tmp_path, monkeypatch):
    # As if not installed.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(training, "prepared", lambda *_: pytest.fail("decoded"))
    message = "train.tensorboard needs the package tensorboard: pip install 's4aug[tensorboard]'"
    with pytest.raises(ConfigError, match=re.escape(message)):
        fit(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full to write to")
def test_a_full_disk_is_told_with_the_cure(read, tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    MetricsFile(run.metrics)
    run.tensorboard.mkdir()
    (run.tensorboard / "full").symlink_to("/dev/full")
    monkeypatch.setattr(tensorboard, "event_file_name", lambda: "full")
    with pytest.raises(S4AugTrainError, match=r"cannot write .*full: No space left on device; .*--no-tensorboard"):
        Board(run)


def test_it_is_loaded_only_when_it_is_asked_for():
    code = "import sys, s4aug_train; print('torch.utils.tensorboard' in sys.modules, 'tensorboard' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


@pytest.fixture
def state_and_loader(make_tile):
    config = configured({**SMALL, "train.batch_unlabeled": 2})
    setup = Setup(config, s4aug_train.data.normalization.Normalization((99.0,) * 3, (50.0,) * 3, "given"), 6)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Sequential(nn.Dropout(0.5)))
    network[2].eval()  # a part that its owner keeps as it is
    tiles = [make_tile((80, 96), name=str(i), seed=i) for i in range(5)]
    state = TrainingState(network, make_method(setup), config.train, torch.device("cpu"))
    network[2].eval()
    pools = (Pool(tiles, 64, labelled=labelled) for labelled in (True, False))
    loader = Loader(*pools, 4, 2, seed=0, weight=lambda step: 0.0, workers=0, device=torch.device("cpu"))
    return state, loader


TABLE = ClassTable(tuple(ClassEntry(str(value), value=value) for value in range(6)))


def test_a_panel_leaves_weights_statistics_modes_and_randomness_alone(state_and_loader):
    state, loader = state_and_loader
    before = {key: value.clone() for key, value in state.network.state_dict().items()}
    modes = [module.training for module in state.network.modules()]
    random = torch.get_rng_state()
    picture = state_panel(state, loader, TABLE)
    assert picture.dtype == np.uint8
    assert all(torch.equal(value, before[key]) for key, value in state.network.state_dict().items())
    assert [module.training for module in state.network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in state.network.parameters())


def test_panels_show_the_same_crops_at_every_step_and_what_the_network_has_learned(state_and_loader):
    state, loader = state_and_loader
    first = state_panel(state, loader, TABLE)
    state.step = 5
    np.testing.assert_array_equal(state_panel(state, loader, TABLE), first)
    with torch.no_grad():
        state.network[0].weight.mul_(-3)
    changed = (state_panel(state, loader, TABLE) != first).any((0, 2))
    assert changed.any()
    assert not changed[: changed.size * 8 // 11].any()  # only predictions are others


def test_modes_come_back_when_judging_fails():
    network = nn.Sequential(nn.Dropout(), nn.Dropout())
    network[1].eval()
    during = []
    with pytest.raises(ZeroDivisionError), judging(network):
        during.append(network[0].training) or 1 / 0
    assert during == [False]
    assert [module.training for module in network.modules()] == [True, True, False]
