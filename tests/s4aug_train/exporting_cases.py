"""Runs to export, the command, and what others read of its files."""

import json
import struct
from functools import partial

import pytest
import torch
from torch import nn

from s4aug_train.config import Config
from s4aug_train.data.layouts import find_tiles
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.data.split import Split
from s4aug_train.engine import Checkpoint
from tests.s4aug_train import command

CPU = torch.device("cpu")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}
call = partial(command.call, "export")


def of_all_extras():
    for package in ("onnx", "onnxscript", "onnxruntime", "safetensors"):
        pytest.importorskip(package, reason="needs the extra: pip install 's4aug[export]'")


def checkpoint_of(network, folder, **settings):
    """A checkpoint with random weights, of a run on the demo set."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    ids = [tile.id for tile in find_tiles(folder).labelled]
    changes = {"data.path": str(folder), "model.encoder": "resnet18", "train.window": 96, "train.stride": 64}
    return Checkpoint(
        step=5,
        config=Config().updated({**changes, **settings}),
        classes=DEEPGLOBE,
        bands=3,
        dtype="uint8",
        normalization=Normalization(MEAN, STD, "imagenet"),
        split=Split(tuple(ids[:3]), tuple(ids[3:6]), tuple(ids[6:])),
        best=None,
        network=network.state_dict(),
        training={},
    )


def metadata_of(path):
    """As others read it."""
    if path.suffix == ".onnx":
        import onnx

        return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])["__metadata__"]
