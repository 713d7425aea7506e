"""Networks of the user's are exported the same way."""

import copy
import json
import sys
import types
from dataclasses import replace

import pytest
import torch
from torch import nn

import s4aug_train
from s4aug_train import exporting, formats
from s4aug_train.description import Description
from s4aug_train.engine import Checkpoint
from s4aug_train.errors import CheckpointError, ExportError, S4AugTrainError
from s4aug_train.exported import read_segmenter
from tests.s4aug_train.exporting_cases import CPU, SUFFIXES, call, checkpoint_of, metadata_of, of_all_extras


class Strided(nn.Module):
    """Fails unless sides are multiples of 32; logits at stride 4."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 2, stride=2)
        )

    def forward(self, images):
        assert images.shape[-2] % 32 == 0
        return self.layers(images)


class Asking(Strided):
    """Asks for values, which no graph can hold."""

    def forward(self, images):
        return self.layers(images if images.mean() > 0 else -images)


@pytest.fixture
def own(demo_folder, monkeypatch, tmp_path):
    """A function that makes a checkpoint file of a network of the user's, `mine:make`."""

    def make(kind):
        mine = types.ModuleType("mine")
        mine.make = lambda classes, bands: kind()
        monkeypatch.setitem(sys.modules, "mine", mine)
        torch.manual_seed(0)
        weights = {f"network.{key}": value for key, value in kind().state_dict().items()}
        checkpoint = checkpoint_of(nn.Module(), demo_folder, **{"model.factory": "mine:make"})
        replace(checkpoint, network=weights).write(tmp_path / "own.pt")
        return tmp_path / "own.pt"

    return make


@pytest.mark.parametrize("name", ["torch-export", "safetensors", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_network_of_the_users_at_a_stride_is_exported_the_same_way(name, own, tmp_path):
    of_all_extras()
    given = Strided()
    before = [(value.requires_grad, value.stride()) for value in given.parameters()]
    export = s4aug_train.export(own(Strided), tmp_path / f"own{SUFFIXES[name]}", format=name, model=given)
    assert [parity.what for parity in export.parities] == ["random", "real"]
    assert all(parity.largest < 5e-6 for parity in export.parities)
    assert [value.requires_grad for value in given.parameters()] == [grad for grad, _ in before]
    if name != "torch-export":
        assert Description.of(metadata_of(export.path), export.path).stride == 4


def test_a_network_given_in_python_is_not_compared_with_itself(own, tmp_path):
    of_all_extras()
    safetensors = formats.FORMATS["safetensors"]

    def write_other(network, description, path):
        other = copy.deepcopy(network)
        nn.init.constant_(other.network.layers[3].bias, 3)
        nn.init.zeros_(other.network.layers[3].weight)
        safetensors.write(other, replace(description, weights=exporting.weights_hash(other.state_dict())), path)

    checkpoint = Checkpoint.read(own(Strided))
    wrong = replace(safetensors, write=write_other)
    with pytest.raises(ExportError, match="computes something else"):
        exporting.export_checkpoint(checkpoint, wrong, tmp_path / "own.safetensors", own=Strided())


def test_the_code_of_a_users_network_runs_only_where_it_is_named(own, tmp_path):
    of_all_extras()
    file, out = own(Strided), tmp_path / "own.safetensors"
    with pytest.raises(CheckpointError, match="say so with --model mine:make"):
        s4aug_train.export(file, out, format="safetensors")
    s4aug_train.export(file, out, format="safetensors", model="mine:make")
    with pytest.raises(CheckpointError, match="say so with --model mine:make"):
        read_segmenter(out, CPU)
    assert read_segmenter(out, CPU, own="mine:make").probabilities(torch.zeros(1, 3, 40, 50)).shape == (1, 6, 40, 50)


def test_a_network_that_cannot_be_traced_is_told_with_the_reason_and_leaves_nothing(own, tmp_path):
    out = tmp_path / "out" / "own.pt2"
    with pytest.raises(ExportError, match=r"torch.export cannot follow .*; --format safetensors needs no") as caught:
        s4aug_train.export(own(Asking), out, format="torch-export", model="mine:make")
    assert "\n" not in str(caught.value)
    assert not out.parent.exists()


def test_without_the_runs_tiles_the_reason_is_told(own, demo_folder, tmp_path):
    of_all_extras()
    file, out = own(Strided), tmp_path / "net.safetensors"
    found = Checkpoint.read(file)
    moved = replace(found, config=found.config.updated({"data.path": "/gone"}))
    moved.write(file)
    options = {"format": "safetensors", "model": "mine:make"}
    export = s4aug_train.export(file, out, **options)
    assert [parity.what for parity in export.parities] == ["random"]
    assert "/gone" in export.without_real
    again = s4aug_train.export(file, out, data=demo_folder, **options)
    assert again.parities[1].images == 4
    with pytest.raises(S4AugTrainError, match="/nowhere"):
        s4aug_train.export(file, out, data="/nowhere", **options)
    in_python = replace(moved, config=moved.config.updated({"data.path": ""}))
    assert "datasets given in Python" in exporting._real_or_why_not(in_python, None)[1]


def test_the_command_prints_the_figures(own, tmp_path):
    of_all_extras()
    run = own(Strided)
    out = tmp_path / "new" / "net.safetensors"
    lines = call(run, "--format", "safetensors", "--out", out, "--model", "mine:make").stdout.splitlines()
    assert lines[0].startswith(f"{out}: safetensors, 0.0 MB, step 5, weights ")
    assert lines[1:] == [
        "on 6 random images: probabilities differ by up to 0, labels of 0 of 31,071 px (0.0000 %)",
        "on 4 real images: probabilities differ by up to 0, labels of 0 of 15,630 px (0.0000 %)",
    ]
    told = json.loads(call(run, "--format", "safetensors", "--out", out, "--model", "mine:make", "--json").stdout)
    assert (told["path"], told["size"], told["step"]) == (str(out), out.stat().st_size, 5)
    assert [parity["largest"] for parity in told["parities"]] == [0, 0]
