"""Smoke test of an installed s4aug, without pytest, from a folder that is not the source tree's.

`python tests/packaging/smoke.py`, with the Python of the environment that is tested. It is also a user's typed script:
`mypy --strict` reads it and holds the library's types to what `assert_type` says.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import chdir, redirect_stdout
from importlib.metadata import files, version
from io import StringIO
from pathlib import Path
from typing import assert_type

import numpy as np
import rasterio  # type: ignore[import-untyped, unused-ignore]
import torch
from torch import Tensor

import s4aug
import s4aug_train
from s4aug_train.cli import main as commands

HOLDS = {"s4aug/py.typed", "s4aug_train/py.typed", "s4aug_train/reporting/page.css", "licenses/LICENSE"}


def check_home() -> None:
    """What is tested is what was installed, not a source tree."""
    for package in (s4aug, s4aug_train):
        home = Path(str(package.__file__)).resolve().parent
        if home.parent != Path(sysconfig.get_path("purelib")).resolve():
            sys.exit(f"{package.__name__} comes from {home}; install the wheel (not with -e), and set no PYTHONPATH")


def check_contents() -> None:
    """The wheel holds both packages, their data and the licence, and nothing else."""
    paths = [Path(path) for path in files("s4aug") or []]
    inside = [path for path in paths if path.parts[0] in ("s4aug", "s4aug_train") and path.suffix != ".pyc"]
    data = {path.as_posix() for path in inside if path.suffix != ".py"}
    papers = {path for path in paths if path.parts[0] == f"s4aug-{s4aug.__version__}.dist-info"}
    data |= {"/".join(path.parts[1:]) for path in papers if path.name == "LICENSE"}
    assert data == HOLDS, data
    rest = [path for path in {*paths} - {*inside} - papers if path.suffix != ".pyc"]
    assert [path.name for path in rest] == ["s4aug-train"], rest


def check_undoing() -> None:
    """A flip and a quarter turn are a transposition, and undone to the bit."""
    size = (37, 53)
    move = s4aug.AffineTransform.rot90(1, 2, size) @ s4aug.AffineTransform.hflip(2, size)
    assert_type(move, s4aug.AffineTransform)
    image = torch.randn(2, 3, *size)
    moved = s4aug.warp(image, move)
    assert_type(moved, s4aug.Warped)
    back, valid = s4aug.warp(moved.image, move.inverse(), valid=moved.valid)
    assert_type(back, Tensor)
    assert torch.equal(moved.image, image.transpose(2, 3))
    assert torch.equal(back, image)
    assert valid.all()


def check_consistency() -> None:
    """The loss of two views of a batch has a gradient."""
    images, net = torch.rand(2, 3, 64, 64), torch.nn.Conv2d(3, 6, 3, padding=1)
    perturb = s4aug.RandomAffine(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25))
    generator = torch.Generator().manual_seed(0)
    first, second = perturb(images, generator=generator), perturb(images, generator=generator)
    assert_type(first, s4aug.View)
    loss = s4aug.consistency_loss(net(first.image), first, net(second.image), second)
    assert_type(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]  # torch's own
    assert loss.item() > 0
    assert net.weight.grad is not None
    assert net.weight.grad.abs().sum() > 0


def script(*arguments: str) -> str:
    """What `s4aug-train`, as it was installed, prints."""
    home = Path(sys.executable).parent
    return subprocess.run([home / "s4aug-train", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def command(*arguments: str) -> str:
    """The same in this process, which need not load torch again."""
    with redirect_stdout(StringIO()) as printed:
        commands(list(arguments), standalone_mode=False)
    return printed.getvalue()


def check_trainer() -> None:
    """From the made-up tiles to an evaluated network and its page."""
    assert "reproduce" in script("--help")
    assert script("--version") == f"s4aug-train, version {s4aug.__version__}\n"
    small = ("--labeled", "4", "--val", "2", "--steps", "2", "--batch-labeled", "2", "--batch-unlabeled", "2")
    command("fit", "--data", "demo", "--out", "run", "--crop", "64", *small)
    assert json.loads(Path("run/env.json").read_text())["s4aug"] == s4aug.__version__
    found = json.loads(command("evaluate", "run", "--json"))
    assert found["tiles"] == 2
    assert 0 <= found["miou"] <= 1
    command("report", "run", "--unlabeled-tiles", "0")
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert s4aug.__version__ in page
    assert "prefers-color-scheme" in page, "page.css is not in it"


def check_map() -> None:
    """The map of a raster lies on its grid and names its maker."""
    grid = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 80, 96), dtype=np.uint8)
    kind = {"driver": "GTiff", "dtype": "uint8", "crs": "EPSG:32633", "transform": grid}
    with rasterio.open("scene.tif", "w", width=96, height=80, count=3, **kind) as scene:
        scene.write(pixels)
    command("predict", "run", "scene.tif", "--out", "maps")
    with rasterio.open("maps/scene.tif") as made:
        assert (made.width, made.height, made.transform) == (96, 80, grid)
        assert made.tags()["TIFFTAG_SOFTWARE"] == f"s4aug {s4aug.__version__}"


def main() -> None:
    """All of it, in a folder that is deleted afterwards."""
    check_home()
    assert version("s4aug") == s4aug.__version__
    check_contents()
    check_undoing()
    check_consistency()
    with tempfile.TemporaryDirectory() as folder:
        # What is there already need not be made again.
        os.environ.setdefault("S4AUG_CACHE", f"{folder}/cache")
        with chdir(folder):
            check_trainer()
            check_map()


if __name__ == "__main__":
    main()
