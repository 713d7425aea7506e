"""What an exported network tells of itself comes back as it was, and nothing else is taken for it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug_train.config import MethodConfig, ModelConfig
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import DEEPGLOBE, ClassEntry, ClassTable
from s4aug_train.description import Description
from s4aug_train.errors import CheckpointError, ConfigError, DamagedError
from s4aug_train.segmenter import weights_hash

WHERE = Path("a.onnx")
KNOWN = Description(
    classes=DEEPGLOBE,
    bands=3,
    dtype="uint8",
    normalization=Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "imagenet"),
    model=ModelConfig(encoder="resnet18", weights="none"),
    stride=1,
    window=512,
    window_stride=341,
    method=MethodConfig(name="fixmatch", degrees=0.1),
    step=7,
    weights="ab",
)


def test_what_people_and_plugins_read_is_plain():
    metadata = KNOWN.metadata()
    assert metadata["class_names"].startswith('{"0": "urban_land", "1": "agriculture_land"')
    assert metadata["colors"].startswith("[[0, 255, 255], [255, 255, 0]")
    assert metadata["mean"] == "[123.675, 116.28, 103.53]"
    assert (metadata["band_order"], metadata["model_type"]) == ("red, green, blue", '"Segmentor"')
    assert (metadata["stride"], metadata["multiple"], metadata["window"], metadata["step"]) == ("1", "32", "512", "7")
    assert all(isinstance(value, str) for value in metadata.values())


def test_no_path_of_the_machine_is_told():
    told = replace(KNOWN, model=ModelConfig(weights="/home/me/weights.pt")).metadata()
    assert not any("/home/me" in value for value in told.values())


names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9)
numbers = st.floats(0.001, 1e6)


@settings(max_examples=25)  # each reads all settings
@given(
    names=st.lists(names, min_size=1, max_size=5, unique=True),
    statistics=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    factory=st.none() | names,
    degrees=st.floats(0, 180),
)
def test_it_comes_back_as_it_was(names, statistics, dtype, factory, degrees):
    mean, std = zip(*statistics, strict=True)
    table = ClassTable(tuple(ClassEntry(name, (i, 0, 0), i, i > 0) for i, name in enumerate(names)))
    description = replace(
        KNOWN,
        classes=table,
        bands=len(mean),
        dtype=dtype,
        normalization=Normalization(mean, std, "measured"),
        model=ModelConfig(factory=factory, weights="none"),
        method=MethodConfig(degrees=degrees),
    )
    assert Description.of(description.metadata(), WHERE) == description


def test_metadata_of_others_and_of_other_versions_are_refused():
    with pytest.raises(CheckpointError, match="a.onnx .*was not made by s4aug-train export; make it so"):
        Description.of({"producer": "someone"}, WHERE)
    with pytest.raises(CheckpointError, match="by s4aug 9.0 .*version 2.* reads version 1; install that, or export"):
        Description.of({"s4aug": "2", "s4aug_version": "9.0"}, WHERE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", "[]"),
        ("classes", "[[1]]"),
        ("bands", "4"),
        ("std", "[1, 0, 1]"),
        ("mean", "[1, NaN, 1]"),
        ("mean", "5"),
        ("dtype", "int7"),
        ("stride", "3"),
        ("window_stride", "999"),
        ("method", '{"nonsense": 1}'),
        ("model", '{"encoder": "__class__", "factory": null}'),
        ("step", "{"),
        ("weights_sha256", None),
    ],
)
def test_damaged_metadata_are_told_in_one_line(key, value):
    metadata = {**KNOWN.metadata(), key: value}
    if value is None:
        del metadata[key]
    with pytest.raises(DamagedError, match="a.onnx has damaged metadata: .*export the run anew") as caught:
        Description.of(metadata, WHERE)
    assert "\n" not in str(caught.value)


def test_contradictions_are_refused():
    with pytest.raises(ConfigError, match="4 bands, but 3 means"):
        replace(KNOWN, bands=4)


def test_the_hash_sees_every_value_name_and_type_and_not_the_layout():
    weights = {"a": torch.arange(48.0).reshape(2, 2, 3, 4), "b": torch.tensor(3)}
    known = weights_hash(weights)
    laid_out = {"b": weights["b"], "a": weights["a"].contiguous(memory_format=torch.channels_last)}
    assert weights_hash(laid_out) == known
    changed = weights["a"].clone()
    changed[1, 1, 2, 3] += 1e-3
    others = [
        {**weights, "a": changed},
        {**weights, "a": weights["a"].double()},
        {"c": weights["a"], "b": weights["b"]},
    ]
    assert len({known, *(weights_hash(other) for other in others)}) == 4
