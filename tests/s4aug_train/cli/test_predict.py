import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from PIL import Image

import s4aug_train
from s4aug_train.cli import main
from s4aug_train.cli.predict import lost_notes, shares_text, unplaced_note
from s4aug_train.config import Config
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.data.split import Split
from s4aug_train.engine import Checkpoint
from s4aug_train.jobs import Job
from s4aug_train.model import UNet
from s4aug_train.prediction import Made

PLACE = {"crs": "EPSG:32652", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)}
OPTIONS = ["--window", "64", "--device", "cpu"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network with random weights, as a run would have left it."""
    torch.manual_seed(0)
    config = Config().updated(
        {"model.encoder": "resnet18", "model.weights": "none", "train.window": 64, "train.stride": 64}
    )
    content = Checkpoint(
        step=3,
        config=config,
        classes=DEEPGLOBE,
        bands=3,
        dtype="uint8",
        normalization=Normalization((100.0,) * 3, (50.0,) * 3, "measured"),
        split=Split(("1",), ("2",), ("3",), "by hand"),
        best=None,
        network=UNet(6, 3, "resnet18").state_dict(),
        training={},
    )
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "last.pt"
    content.write(path)
    return path


def scene(path, height=140, width=170, bands=3):
    image = np.random.default_rng(0).integers(0, 256, (bands, height, width)).astype(np.uint8)
    shape = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "uint8"}
    with rasterio.open(path, "w", **shape, **PLACE, photometric="minisblack") as dataset:
        dataset.write(image)
    return path


def command(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def test_a_run_folder_or_its_checkpoint_makes_maps_and_says_where(checkpoint, tmp_path):
    source = scene(tmp_path / "a.tif")
    outs = [tmp_path / "one", tmp_path / "two"]
    for who, out in zip((checkpoint, checkpoint.parent.parent), outs, strict=True):
        result = command(who, source, "--out", out, *OPTIONS)
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == str(out / "a.tif")
    assert (outs[0] / "a.tif").read_bytes() == (outs[1] / "a.tif").read_bytes()
    again = command(checkpoint, source, "--out", outs[0], *OPTIONS)
    assert again.stdout.strip() == f"{outs[0] / 'a.tif'}: was there already"


def test_python_makes_the_same_map(checkpoint, tmp_path):
    source = scene(tmp_path / "a.tif")
    command(checkpoint, source, "--out", tmp_path / "shell", "--tta", "affine:2", "--overlap", 32, *OPTIONS)
    settings = {"train.device": "cpu"}
    [made] = s4aug_train.predict(
        source, checkpoint, settings, out=tmp_path / "python", tta="affine:2", window=64, overlap=32
    )
    assert made.failure == ""
    assert made.job.out.read_bytes() == (tmp_path / "shell" / "a.tif").read_bytes()


def test_an_exported_network_makes_the_same_map(checkpoint, tmp_path):
    pytest.importorskip("safetensors", reason="the extra export is not installed")
    source, exported = scene(tmp_path / "a.tif"), tmp_path / "net.safetensors"
    s4aug_train.export(checkpoint, exported, format="safetensors")
    for who, out in ((checkpoint, "one"), (exported, "two")):
        result = command(who, source, "--out", tmp_path / out, *OPTIONS)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "one" / "a.tif").read_bytes() == (tmp_path / "two" / "a.tif").read_bytes()


def test_bands_scale_and_further_maps_are_asked_for_by_options(checkpoint, tmp_path):
    source = scene(tmp_path / "four.tif", bands=4)
    assert "choose them with --bands" in command(checkpoint, source, "--out", tmp_path / "out", *OPTIONS).stderr
    more = ["--bands", "3,2,1", "--scale", "0.5,3", "--confidence", "--probabilities", "--tta", "flips"]
    result = command(checkpoint, source, "--out", tmp_path / "out", *more, *OPTIONS)
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["four.tif", "four_confidence.tif", "four_probabilities.tif"]


def test_failures_come_last_with_exit_code_1_and_json_tells_each(checkpoint, tmp_path):
    good = scene(tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_text("no raster")
    arguments = [checkpoint, tmp_path / "bad.tif", good, "--out", tmp_path / "out", *OPTIONS]
    result = command(*arguments)
    assert result.exit_code == 1
    assert result.stdout.strip() == str(tmp_path / "out" / "good.tif")
    assert result.stderr.strip().splitlines()[-1].startswith(f"failed: {tmp_path / 'bad.tif'} cannot be read")
    told = json.loads(command(*arguments, "--json").stdout)
    assert [each["outcome"] for each in told] == ["failed", "skipped"]
    assert "cannot be read" in told[0]["failure"]
    assert told[0]["shares"] is None
    assert sum(told[1]["shares"].values()) == pytest.approx(1)


def test_the_shares_of_the_classes_are_told_over_all_maps_and_rasters_without_place(checkpoint, tmp_path):
    sources = [scene(tmp_path / "a.tif", 64, 90), scene(tmp_path / "b.tif", 64, 64)]
    Image.fromarray(np.full((70, 70, 3), 200, np.uint8)).save(tmp_path / "c.png")
    (tmp_path / "bad.tif").write_text("no raster")
    out = tmp_path / "out"
    one = command(checkpoint, sources[0], "--out", out, *OPTIONS)
    every = command(checkpoint, *sources, tmp_path / "c.png", tmp_path / "bad.tif", "--out", out, *OPTIONS)
    for result, names in ((one, ["a"]), (every, ["a", "b", "c"])):
        counts = np.zeros(256, int)
        for name in names:
            with rasterio.open(out / f"{name}.tif") as labels:
                counts += np.bincount(labels.read(1).ravel(), minlength=256)
        [line] = [line for line in result.stderr.splitlines() if line.startswith("classes of")]
        which, _, shares = line.partition(f", % of {counts[:6].sum()} valid pixels: ")
        assert which == ("classes of the map" if len(names) == 1 else "classes of the 3 maps")
        expected = zip(DEEPGLOBE.names, 100 * counts[:6] / counts[:6].sum(), strict=True)
        told = [f"{name} {'<0.1' if 0 < share < 0.05 else f'{share:.1f}'}" for name, share in expected]
        assert shares == ", ".join(told)
    assert "where on earth" not in one.stderr
    assert f"note: {tmp_path / 'c.png'} does not say where on earth it lies" in every.stderr
    assert every.stderr.splitlines()[-1].startswith("failed: ")


def test_many_rasters_without_place_are_one_note():
    made = [Made(Job(Path(f"{name}.png"), Path(f"{name}.tif")), placed=False) for name in "ab"]
    assert unplaced_note(made) == (
        "note: 2 rasters, for example a.png, do not say where on earth they lie (no CRS, or no geotransform), so "
        "their maps do not either"
    )
    # Maps that do not say their pixels, as those of other versions, are left out, and it is told.
    assert shares_text(made) is None
    told = shares_text([*made, replace(made[0], pixels={"a": 1, "b": 2999}), replace(made[0], failure="x")])
    assert told == "classes of 1 of the 3 maps, % of 3000 valid pixels: a <0.1, b 100.0"


def test_what_is_odd_about_maps_is_told():
    job = Job(Path("a.vrt"), Path("out/a.tif"))
    odd = Made(job, system_lost=True, older=(job.confidence,))
    one, two = list(lost_notes([Made(job), odd])), list(lost_notes([odd, odd]))
    assert len(one) == len(two) == 2
    assert one[0].startswith("note: a GeoTIFF cannot tell the CRS of a.vrt, so out/a.tif has none")
    assert one[1].startswith("note: out/a_confidence.tif was there and does not go with the new map")
    assert two[0].startswith(
        "note: a GeoTIFF cannot tell the CRS of a.vrt and 1 more, so out/a.tif and 1 more has none"
    )
    assert two[1].startswith("note: out/a_confidence.tif and 1 more was there")
    assert list(lost_notes([Made(job)])) == []


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--bands", "1,x"], 2, "must be numbers with commas"),
        (["--scale", "1,2,3"], 2, "holds 3 numbers, 2 at most"),
        (["--tta", "rotate"], 1, "--tta must be flips or affine:K"),
        (["--overlap", "64"], 1, "windows of 64 px cannot overlap by 64 px"),
        (["--set", "train.lr=0.1"], 1, "train.lr has no say in a prediction; leave it out. What may be set: model.f"),
        (["--workers", "2"], 2, "No such option"),
    ],
)
def test_options_that_cannot_be_are_one_line(checkpoint, tmp_path, arguments, code, told):
    result = command(checkpoint, scene(tmp_path / "a.tif"), "--out", tmp_path / "out", *OPTIONS, *arguments)
    assert result.exit_code == code
    assert told in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_map_never_replaces_its_raster(checkpoint, tmp_path):
    source = scene(tmp_path / "a.tif")
    before = source.read_bytes()
    result = command(checkpoint, source, "--out", tmp_path, "--overwrite", *OPTIONS)
    assert result.exit_code == 1
    assert "would replace the raster" in result.stderr
    assert source.read_bytes() == before


def test_killed_in_the_middle_and_run_again_the_map_is_the_same_bytes(checkpoint, tmp_path):
    source, out, whole = scene(tmp_path / "a.tif", 600, 600), tmp_path / "out", tmp_path / "whole"
    arguments = [str(checkpoint), str(source), *OPTIONS, "--out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "s4aug_train", "predict", *arguments, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    # Once the draft has grown, at least one row of windows is on the disk, and most are not.
    while process.poll() is None and not [part for part in out.glob(".*.draft.tmp") if part.stat().st_size > 1000]:
        time.sleep(0.005)
    process.kill()
    assert process.wait() != 0, process.stdout.read()
    process.stdout.close()
    left = [path.name for path in out.iterdir()]
    assert "a.tif" not in left
    assert left
    assert command(*arguments, out).exit_code == 0
    assert [path.name for path in out.iterdir()] == ["a.tif"]
    assert command(*arguments, whole).exit_code == 0
    assert (out / "a.tif").read_bytes() == (whole / "a.tif").read_bytes()
