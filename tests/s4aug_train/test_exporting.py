"""Exported files compute what the network does, say what they are, and are whole or absent."""

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import s4aug_train
from s4aug_train import exporting, formats
from s4aug_train.config import Config
from s4aug_train.data.layouts import find_tiles
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.data.raster import read_image
from s4aug_train.description import Description
from s4aug_train.engine import Checkpoint
from s4aug_train.errors import CheckpointError, ConfigError, DamagedError, ExportError, S4AugTrainError
from s4aug_train.exported import read_exported, read_segmenter
from s4aug_train.inference import TilePixels, predict_pieces
from s4aug_train.model import UNet
from s4aug_train.run import RunFolder
from s4aug_train.windows import Windows
from tests.s4aug_train.exporting_cases import CPU, MEAN, STD, SUFFIXES, call, checkpoint_of, metadata_of, of_all_extras

# Beside the sizes that are compared at export: one pixel, a multiple of 32, odd ones, another batch than was traced.
SIZES = [(1, 1, 1), (1, 96, 32), (4, 33, 47), (2, 128, 161)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return UNet(6, 3, "resnet18").eval()


@pytest.fixture(scope="module")
def run(network, demo_folder, shared_cache, tmp_path_factory):
    """The folder of a run of the paper's network."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    checkpoint_of(network, demo_folder).write(run.last)
    return run.path


@pytest.fixture(scope="module")
def exports(run, tmp_path_factory):
    """What came of exporting it to each format."""
    of_all_extras()
    folder = tmp_path_factory.mktemp("exports")
    return {name: s4aug_train.export(run, folder / f"net{suffix}", format=name) for name, suffix in SUFFIXES.items()}


@pytest.fixture(scope="module")
def archive(exports):
    """The torch-export file as others load it: its module and metadata."""
    files = {"s4aug.json": ""}
    program = torch.export.load(exports["torch-export"].path, extra_files=files)
    return program.module(), json.loads(files["s4aug.json"])


@pytest.fixture(scope="module")
def runners(exports, archive):
    """The exported graphs as functions of arrays, by what others would use."""
    import onnxruntime

    session = onnxruntime.InferenceSession(exports["onnx"].path, providers=["CPUExecutionProvider"])
    module, _ = archive
    return {
        "onnx": lambda images: session.run(["probabilities"], {"image": images})[0],
        "torch-export": lambda images: module(torch.from_numpy(images)).detach().numpy(),
    }


@torch.no_grad()
def expected(network, images):
    """By hand: NaN is the mean, normalised, the network in PyTorch, softmax."""
    mean, std = (np.array(part, np.float64)[:, None, None] for part in (MEAN, STD))
    real = np.isfinite(images).all(1, keepdims=True)
    normalised = np.where(real, (images - mean) / std, 0).astype(np.float32)
    logits = network(torch.from_numpy(normalised)).double().numpy()
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["onnx", "torch-export"])
def test_a_graph_takes_any_batch_and_size_and_gives_the_networks_probabilities(name, size, network, runners):
    batch, height, width = size
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, height, width)).astype(np.float32)
    images[0, 1, : height // 2, : width // 3] = np.nan
    found = runners[name](images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(network, images), rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", SUFFIXES)
def test_an_export_was_compared_on_noise_and_on_the_runs_tiles(name, exports):
    export = exports[name]
    assert [(parity.what, parity.images) for parity in export.parities] == [("random", 6), ("real", 4)]
    assert [parity.pixels for parity in export.parities] == [31071, 64**2 + 63**2 + 62**2 + 61**2]
    assert all(parity.largest < 5e-6 for parity in export.parities)
    assert export.parities[0].differing < 4
    assert export.without_real is None
    assert export.size == export.path.stat().st_size


@pytest.mark.parametrize("name", SUFFIXES)
def test_each_file_says_all_that_using_it_takes(name, exports, archive):
    metadata = archive[1] if name == "torch-export" else metadata_of(exports[name].path)
    description = Description.of(metadata, exports[name].path)
    assert (description.classes, description.bands, description.dtype) == (DEEPGLOBE, 3, "uint8")
    assert description.normalization == Normalization(MEAN, STD, "imagenet")
    assert (description.window, description.window_stride, description.step, description.stride) == (96, 64, 5, 1)
    assert description.weights == exports[name].weights == metadata["weights_sha256"]
    if name != "safetensors":
        assert metadata["input"].startswith("image [batch, 3, height, width] float32: pixels as stored (uint8)")
        assert metadata["output"].startswith("probabilities [batch, 6, height, width]")


def test_the_onnx_file_is_valid_and_names_what_is_free(exports):
    import onnx

    model = onnx.load(exports["onnx"].path)
    onnx.checker.check_model(model, full_check=True)
    (put_in,), (put_out,) = model.graph.input, model.graph.output
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (put_in, put_out)]
    assert [put_in.name, put_out.name] == ["image", "probabilities"]
    assert shapes == [["batch", 3, "height", "width"], ["batch", 6, "height", "width"]]


@pytest.mark.parametrize("name", ["onnx", "safetensors"])
def test_a_file_in_place_of_the_checkpoint_predicts_the_same_map(name, run, exports, make_tile):
    valid = np.ones((150, 140), bool)
    valid[20:70, 30:90] = False
    tile = make_tile((150, 140), valid=valid)
    checkpoint = Checkpoint.read(RunFolder(run).last)
    windows = Windows(96, 64, smooth=True)
    maps = [
        torch.cat([piece.probabilities for piece in predict_pieces(segmenter, TilePixels(tile), windows)], 1)
        for segmenter in (checkpoint.segmenter(CPU), read_segmenter(exports[name].path, CPU))
    ]
    assert maps[0].shape == (6, 150, 140)
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=5e-6 if name == "onnx" else 0)


def test_what_predicting_takes_besides_is_in_the_file_too(exports):
    for name in ("onnx", "safetensors"):
        exported = read_exported(exports[name].path, CPU)
        assert exported.description.method == Config().method
        assert exported.segmenter.classes == DEEPGLOBE
        assert (exported.segmenter.bands, exported.segmenter.dtype) == (3, "uint8")


def test_a_file_that_computes_something_else_is_an_error_and_an_older_one_stays(run, tmp_path, monkeypatch):
    of_all_extras()
    out = tmp_path / "net.safetensors"
    out.write_bytes(b"older")

    def write_other(network, description, path):
        with torch.no_grad():
            network.classifier.bias[0] += 0.01
        changed = replace(description, weights=exporting.weights_hash(network.state_dict()))
        formats.FORMATS["safetensors"].write(network, changed, path)
        with torch.no_grad():
            network.classifier.bias[0] -= 0.01

    wrong = replace(formats.FORMATS["safetensors"], write=write_other)
    checkpoint = Checkpoint.read(RunFolder(run).last)
    with pytest.raises(ExportError, match=r"the safetensors file computes something else: .*no file was left; try"):
        exporting.export_checkpoint(checkpoint, wrong, out)
    assert out.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_numbers_that_are_not_finite_are_a_difference(run):
    checkpoint = Checkpoint.read(RunFolder(run).last)
    segmenter = checkpoint.segmenter(CPU)
    sample = next(exporting.random_samples(segmenter))
    nothing = exporting.compare("random", segmenter, lambda _: torch.full((1, 6, 64, 64), torch.nan), [sample])
    assert nothing.largest == float("inf")
    other_shape = exporting.compare("random", segmenter, lambda _: torch.zeros(1, 6, 64, 63), [sample])
    assert other_shape.largest == float("inf")


def test_a_full_disk_leaves_nothing(run, tmp_path, file_limit):
    of_all_extras()
    with file_limit(1 << 20), pytest.raises(S4AugTrainError, match=r"cannot write .*; free some space"):
        s4aug_train.export(run, tmp_path / "net.safetensors", format="safetensors")
    assert list(tmp_path.iterdir()) == []


def test_tiles_of_another_kind_are_not_compared(network, demo_folder):
    other = replace(checkpoint_of(network, demo_folder), dtype="uint16")
    samples, why = exporting._real_or_why_not(other, None)
    assert samples == []
    assert "has 3 bands of uint8, the run was trained on 3 of uint16" in why


def test_real_samples_are_windows_of_validation_tiles(network, demo_folder):
    checkpoint = checkpoint_of(network, demo_folder, **{"train.window": 48, "train.stride": 48})
    samples = exporting.real_samples(checkpoint)
    assert [tuple(sample.images.shape[-2:]) for sample in samples] == [(48, 48), (47, 47), (46, 46), (45, 45)]
    first = next(tile for tile in find_tiles(demo_folder).labelled if tile.id == checkpoint.split.val[0])
    np.testing.assert_array_equal(samples[0].images[0].numpy(), read_image(first.image)[:, :48, :48])


def test_a_folder_to_compare_on_needs_the_runs_patterns_and_no_masks(network, demo_folder, tmp_path):
    images = sorted((demo_folder / "train").glob("*_sat.jpg"))[:5]
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for path in images:
        for kind, name in (("images", f"{path.stem}.rgb.jpg"), ("masks", f"{path.stem}.true.jpg")):
            (tmp_path / kind / name).write_bytes(path.read_bytes())
    patterns = {"data.image_pattern": "images/{id}.rgb.jpg", "data.mask_pattern": "masks/{id}.true.jpg"}
    checkpoint = checkpoint_of(network, demo_folder, **patterns)
    expected = [read_image(path)[:, :96, :96][:, : 96 - min(cut, 32)] for cut, path in enumerate(images[:4])]
    for folder in (tmp_path, tmp_path / "images"):
        samples = exporting.real_samples(checkpoint, str(folder))
        assert len(samples) == 4
        for sample, image in zip(samples, expected, strict=True):
            height, width = sample.images.shape[-2:]
            np.testing.assert_array_equal(sample.images[0].numpy(), image[:, :height, :width])


class TestReading:
    """Files that cannot be read: one line, with the cure."""

    def test_a_file_of_others(self, tmp_path):
        of_all_extras()
        import onnx
        import safetensors.torch

        shape = ["b", 3, "h", "w"]
        values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
        graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "other.onnx")
        safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
        for name in ("other.onnx", "other.safetensors"):
            with pytest.raises(CheckpointError, match=f"{name} .*not made by s4aug-train export"):
                read_segmenter(tmp_path / name, CPU)

    @pytest.mark.parametrize("name", ["onnx", "safetensors"])
    @pytest.mark.parametrize("kept", [0, 5, 0.5, -1])
    def test_a_file_cut_short(self, name, kept, exports, tmp_path):
        content = exports[name].path.read_bytes()
        cut = tmp_path / f"cut{SUFFIXES[name]}"
        cut.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
        with pytest.raises(DamagedError, match=r"cut\..*damaged, or none that .*; export the run anew") as caught:
            read_segmenter(cut, CPU)
        assert "\n" not in str(caught.value)

    def test_a_weight_that_is_another(self, exports, tmp_path):
        content = bytearray(exports["safetensors"].path.read_bytes())
        content[-5] ^= 1
        (tmp_path / "bit.safetensors").write_bytes(content)
        with pytest.raises(DamagedError, match="its weights are not those that were exported"):
            read_segmenter(tmp_path / "bit.safetensors", CPU)

    def test_metadata_of_another_network_or_version(self, exports, tmp_path):
        import onnx

        for key, value, message in [
            ("s4aug", "77", "of version 77., this is"),
            ("bands", "4", "damaged metadata"),
            ("classes", '[["a", null, 1, false]]', "its graph is not that of its metadata"),
        ]:
            model = onnx.load(exports["onnx"].path)
            next(entry for entry in model.metadata_props if entry.key == key).value = value
            onnx.save(model, tmp_path / "edited.onnx")
            with pytest.raises(CheckpointError, match=message):
                read_segmenter(tmp_path / "edited.onnx", CPU)

    @pytest.mark.parametrize("name", ["none.onnx", "none.safetensors", "", "net.pt2"])
    def test_no_such_file(self, name, tmp_path):
        with pytest.raises(CheckpointError, match="no file at .*; give one made by|; give a file .onnx or .safetens"):
            read_segmenter(tmp_path / name, CPU)

    def test_a_precision_or_a_device_that_cannot_be_had(self, exports, monkeypatch):
        import onnxruntime

        with pytest.raises(ConfigError, match="float32, not bf16; leave out --precision"):
            read_segmenter(exports["onnx"].path, CPU, "bf16")
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
        with pytest.raises(ConfigError, match="does not run on cuda; use --device cpu, or install onnxruntime-gpu"):
            read_segmenter(exports["onnx"].path, torch.device("cuda"))

    def test_images_that_onnxruntime_cannot_run(self, exports):
        segmenter = read_segmenter(exports["onnx"].path, CPU)
        with pytest.raises(ExportError, match=r"cannot run .*net.onnx on images \[1, 4, 8, 8\]: "):
            segmenter.network.run(torch.zeros(1, 4, 8, 8))

    @pytest.mark.parametrize(("name", "package"), [("onnx", "onnxruntime"), ("safetensors", "safetensors")])
    def test_a_missing_package(self, name, package, exports, run, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError, match=rf"needs the package {package}: pip install 's4aug\[export\]'"):
            read_segmenter(exports[name].path, CPU)
        with pytest.raises(ConfigError, match=rf"needs the package {package}: pip install 's4aug\[export\]'"):
            s4aug_train.export(run, tmp_path / f"net{SUFFIXES[name]}", format=name)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--format", "onnx", "--out", "net.pt"], 1, "net.pt must end in .onnx for the format onnx"),
        (["--format", "tflite", "--out", "net.onnx"], 2, "is not one of"),
        (["--out", "net.onnx"], 2, "--format"),
        (["--format", "safetensors", "--out", "/proc/nowhere/net.safetensors"], 1, "cannot write /proc/nowhere/net.sa"),
    ],
)
def test_mistakes_end_with_one_line(run, arguments, code, text):
    of_all_extras()
    lines = [line for line in call(run, *arguments, code=code).stderr.splitlines() if line.lower().startswith("error")]
    assert len(lines) == 1
    assert text in lines[0]


def test_a_run_without_a_checkpoint_is_told(tmp_path):
    result = call(tmp_path, "--format", "torch-export", "--out", tmp_path / "net.pt2", code=1)
    assert "holds no checkpoints/last.pt" in result.stderr


def test_packages_of_the_extra_are_imported_late_alone():
    for path in (Path(s4aug_train.__file__).parent).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert not {name.split(".")[0] for name in names} & {"onnx", "onnxscript", "onnxruntime", "safetensors"}
