"""Whole runs from Python: own networks and datasets, class weights, teachers, and how runs are put together."""

import copy
import json
import traceback
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import s4aug_train
from s4aug_train.engine import Checkpoint
from s4aug_train.errors import CheckpointError, ConfigError, DataError
from s4aug_train.preparation import _class_weights, _method, _new_network
from s4aug_train.presets import configured
from s4aug_train.records import EvaluationRecord, Note

SMALL = {
    "model.weights": "none",
    "train.steps": 4,
    "train.crop": 64,
    "train.log_every": 2,
    "train.workers": 0,
    "train.window": 64,
    "train.stride": 64,
    "train.device": "cpu",
}


def small_network(classes=3, bands=3, stride=2):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(bands, 8, 3, padding=1, stride=stride), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, classes, 1)
    )


@pytest.fixture
def tiles():
    """A function that makes a dataset of random tiles of 80 x 90 px."""

    def make(count, seed=0, bands=3):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (count, bands, 80, 90), generator=generator, dtype=torch.uint8)
        masks = torch.randint(0, 3, (count, 80, 90), generator=generator)
        masks[:, :10] = 255
        return TensorDataset(images, masks)

    return make


@pytest.fixture
def own_data(tiles):
    return s4aug_train.OwnData(("field", "forest", "water"), tiles(5), tiles(2, seed=1), tiles(6, seed=2))


def test_a_network_and_datasets_of_the_user_train_and_are_evaluated(own_data, tmp_path):
    model = small_network()
    before = model[0].weight.clone()
    result = s4aug_train.fit(configured(SMALL), out=tmp_path / "run", model=model, dataset=own_data)
    assert not torch.equal(model[0].weight, before)
    assert result.evaluation.tiles == 2
    # Ignored rows count nowhere.
    assert sum(map(sum, result.evaluation.confusion)) == 2 * 70 * 90
    again = s4aug_train.evaluate(tmp_path / "run", model=small_network(), dataset=own_data)
    assert again == result.evaluation
    with pytest.raises(DataError, match="given from Python; name a folder that holds them with --data"):
        s4aug_train.evaluate(tmp_path / "run", model=small_network())
    assert {line["step"] for line in map(json.loads, result.run.metrics.read_text().splitlines())} == {1, 2, 3, 4}


def test_processes_that_read_a_dataset_change_nothing(own_data, tmp_path):
    weights = []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        config = configured({**SMALL, "train.workers": workers})
        s4aug_train.fit(config, out=out, model=small_network(), dataset=own_data)
        weights.append(Checkpoint.read(out / "checkpoints" / "last.pt").network)
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_a_run_of_an_own_network_goes_on_with_it_and_not_without(own_data, tmp_path):
    out, config = tmp_path / "run", configured(SMALL)
    seen = []
    result = s4aug_train.fit(
        config,
        out=out,
        model=small_network(),
        dataset=own_data,
        on_record=seen.append,
        should_stop=lambda: any(isinstance(record, EvaluationRecord) for record in seen),
    )
    assert result.evaluation is None
    stopped = Checkpoint.read(out / "checkpoints" / "last.pt").step
    assert 0 < stopped < 4
    with pytest.raises(CheckpointError, match=r"cannot change model.factory"):
        s4aug_train.fit(config, out=out, dataset=own_data, resume=True)
    s4aug_train.fit(config, out=out, model=small_network(), dataset=own_data, resume=True)
    whole = tmp_path / "whole"
    s4aug_train.fit(config, out=whole, model=small_network(), dataset=own_data)
    first, second = (Checkpoint.read(run / "checkpoints" / "last.pt").network for run in (out, whole))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_layers_that_draw_go_on_as_if_nothing_had_happened(own_data, tmp_path):
    torch.manual_seed(0)
    first = nn.Sequential(small_network(), nn.Dropout(0.5), nn.Conv2d(3, 3, 1))
    config, seen = configured(SMALL), []
    s4aug_train.fit(config, out=tmp_path / "whole", model=copy.deepcopy(first), dataset=own_data)
    parts = {"out": tmp_path / "run", "dataset": own_data}
    stop = {"on_record": seen.append, "should_stop": lambda: len(seen) > 1}
    s4aug_train.fit(config, **parts, model=copy.deepcopy(first), **stop)
    torch.rand(7)
    s4aug_train.fit(config, **parts, model=copy.deepcopy(first), resume=True)
    runs = [Checkpoint.read(tmp_path / name / "checkpoints" / "last.pt").network for name in ("whole", "run")]
    assert all(torch.equal(value, runs[1][key]) for key, value in runs[0].items())


def test_a_crop_that_does_not_fit_the_network_s_stride_is_told(own_data, tmp_path):
    config = configured({**SMALL, "train.crop": 65})
    with pytest.raises(ConfigError, match="train.crop=65 must be a multiple of 2"):
        s4aug_train.fit(config, out=tmp_path / "run", model=small_network(), dataset=own_data)


def test_a_dataset_that_cannot_travel_is_told_with_the_cure(own_data, tmp_path):
    own_data.labeled.transform = lambda item: item  # cannot be pickled
    config = configured({**SMALL, "train.workers": 1})
    with pytest.raises(DataError, match="cannot be sent to other processes .*; use train.workers=0"):
        s4aug_train.fit(config, out=tmp_path / "run", model=small_network(), dataset=own_data)


def test_a_checkpoint_does_not_say_what_code_is_run(own_data, tmp_path):
    s4aug_train.fit(configured(SMALL), out=tmp_path / "run", model=small_network(), dataset=own_data)
    with pytest.raises(CheckpointError, match="give it from Python, as model=..."):
        s4aug_train.evaluate(tmp_path / "run", dataset=own_data)


def test_a_folder_that_holds_something_is_refused_as_on_the_command_line(own_data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not empty"):
        s4aug_train.fit(configured(SMALL), out=tmp_path, dataset=own_data)
    with pytest.raises(ConfigError, match="resume=True needs out"):
        s4aug_train.fit(configured(SMALL), dataset=own_data, resume=True)


@pytest.mark.parametrize("name", ["mean-teacher", "s4net"])
def test_the_teacher_can_be_what_is_evaluated(name, own_data, tmp_path):
    given = {**SMALL, "method.name": name, "method.ema": 0.9, "method.evaluate": "teacher"}
    result = s4aug_train.fit(configured(given), out=tmp_path / "run", model=small_network(), dataset=own_data)
    checkpoint = Checkpoint.read(result.run.last)
    shown = checkpoint.build_network(small_network())
    teacher = checkpoint.training["partner"]["network.network.0.weight"]
    assert torch.equal(shown.network[0].weight, teacher)
    assert not torch.equal(teacher, checkpoint.network["network.0.weight"])
    assert s4aug_train.evaluate(tmp_path / "run", model=small_network(), dataset=own_data) == result.evaluation


def test_balanced_weights_are_inverse_to_the_pixels_and_one_on_average(own_data):
    dataset = own_data.dataset()
    weights = np.array(_class_weights(configured({"train.class_weights": "balanced"}).train, dataset, dataset.labeled))
    masks = own_data.labeled.tensors[1].numpy()
    pixels = np.array([(masks == k).sum() for k in range(3)])
    np.testing.assert_allclose(weights, (1 / pixels) / (1 / pixels).mean())
    assert _class_weights(configured({}).train, dataset, []) is None
    assert _class_weights(configured({"train.class_weights": "1,2,0.5"}).train, dataset, []) == (1.0, 2.0, 0.5)
    with pytest.raises(ConfigError, match="holds 2 numbers, there are 3 classes: field, forest, water"):
        _class_weights(configured({"train.class_weights": "1,2"}).train, dataset, [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.graph": True}, "needs --device cuda"),
        ({"model.factory": "no_such_module:make"}, "cannot import no_such_module"),
        ({"method.name": "no_such_module:make"}, "cannot import no_such_module"),
        ({"method.name": "vat", "method.ema": 0.9, "method.evaluate": "teacher"}, "the method vat keeps no average"),
        ({"method.name": "vat", "method.ema": 0.9}, "the method vat keeps no average"),
        ({"method.name": "full"}, "full needs the masks of the unlabelled tiles"),
        ({"method.name": "cutmix", "train.batch_unlabeled": 1}, "batch_unlabeled must be at least 2"),
    ],
)
def test_what_cannot_be_run_is_told_before_anything_is_written(settings, message, own_data, tmp_path):
    with pytest.raises(ConfigError, match=message):
        s4aug_train.fit(configured({**SMALL, **settings}), out=tmp_path / "run", dataset=own_data)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{"train.dice": 1.0, "train.class_weights": "balanced"}, {"train.nesterov": True}])
def test_options_of_the_loss_and_the_optimizer_change_the_run(settings, own_data, tmp_path):
    weights = []
    for name, extra in (("plain", {}), ("changed", settings)):
        s4aug_train.fit(configured({**SMALL, **extra}), out=tmp_path / name, model=small_network(), dataset=own_data)
        weights.append(Checkpoint.read(tmp_path / name / "checkpoints" / "last.pt").network["network.0.weight"])
    assert not torch.equal(*weights)


def test_the_network_of_a_run_depends_on_its_seed_alone(own_data):
    def first_weights(seed):
        torch.rand(3)
        config = configured({"model.encoder": "resnet18", "train.seed": seed})
        return _new_network(config, own_data.dataset(), None).classifier.weight

    assert torch.equal(first_weights(0), first_weights(0))
    assert not torch.equal(first_weights(0), first_weights(1))


class Corrupt(torch.utils.data.Dataset):
    """Tiles of which some raise."""

    def __init__(self, tiles, *broken):
        self.tiles, self.broken = tiles, broken

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, index):
        if index in self.broken:
            raise OSError(f"item {index} is truncated")
        return self.tiles[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_item_that_raises_ends_the_run_in_one_line_that_names_it(own_data, tmp_path, workers):
    data = replace(own_data, unlabeled=Corrupt(own_data.unlabeled, 1, 2, 3, 4, 5))
    config = configured({**SMALL, "train.workers": workers})
    with pytest.raises(DataError, match=r"dataset item unlabeled:[1-5] cannot be read \(OSError: item") as caught:
        s4aug_train.fit(config, out=tmp_path / "run", model=small_network(), dataset=data)
    assert "\n" not in str(caught.value)
    # The dataset's own line is not lost on the way from another process.
    told = "".join(traceback.format_exception(caught.value))
    assert "is truncated" in told
    assert 'raise OSError(f"item' in told


def test_items_that_raise_are_left_out_on_demand_and_told_once(own_data, tmp_path):
    data = replace(own_data, labeled=Corrupt(own_data.labeled, 0, 3), val=Corrupt(own_data.val, 1))
    weights = []
    for workers in (0, 1):
        config = configured({**SMALL, "train.workers": workers, "data.unreadable": "skip", "train.steps": 6})
        records, out = [], tmp_path / str(workers)
        result = s4aug_train.fit(config, out=out, model=small_network(), dataset=data, on_record=records.append)
        assert result.evaluation.tiles == 1
        texts = [record.text for record in records if isinstance(record, Note)]
        for name in ("labeled:0", "labeled:3", "val:1"):
            assert sum(f"dataset item {name} cannot be read" in text for text in texts) == 1, texts
        weights.append(Checkpoint.read(out / "checkpoints" / "last.pt").network)
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    notes = []
    settings = {"model": small_network(), "dataset": data, "on_note": notes.append}
    assert s4aug_train.evaluate(out, **settings) == result.evaluation
    assert "val:1 cannot be read" in notes[0].text
    with pytest.raises(DataError, match="labeled:0 cannot be read"):
        s4aug_train.evaluate(out, {"data.unreadable": "error"}, **settings)


def test_balanced_weights_count_the_masks_that_can_be_read(own_data):
    train = configured({"train.class_weights": "balanced"}).train
    some = replace(own_data, labeled=torch.utils.data.Subset(own_data.labeled, [0, 1, 3, 4]))
    corrupt = replace(own_data, labeled=Corrupt(own_data.labeled, 2))
    skipping, without, failing = corrupt.dataset(skip=True), some.dataset(), corrupt.dataset()
    expected = _class_weights(train, without, without.labeled)
    assert _class_weights(train, skipping, skipping.labeled) == expected
    with pytest.raises(DataError, match="labeled:2 cannot be read"):
        _class_weights(train, failing, failing.labeled)


def test_balanced_weights_count_all_masks_that_the_method_sees(own_data):
    tiles = own_data.dataset().labeled
    dataset = replace(own_data.dataset(), labeled=tiles[:1], unlabeled=tiles[1:])
    balanced = {"train.class_weights": "balanced"}
    few, all_ = (_method(configured({**balanced, "method.name": name}), dataset) for name in ("supervised", "full"))
    assert few.setup.class_weights == _class_weights(few.setup.config.train, dataset, tiles[:1])
    assert all_.setup.class_weights == _class_weights(all_.setup.config.train, dataset, tiles)
    assert few.setup.class_weights != all_.setup.class_weights
