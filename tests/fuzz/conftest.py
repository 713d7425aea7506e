"""A small world to fuzz in: tiles, a class table, a finished run of a network of two layers."""

import numpy as np
import pytest
from PIL import Image

from tests.fuzz.network import NAME
from tests.fuzz.promise import World

# Whatever a file of settings says: what would take long, or another network, is said otherwise on the command line.
SMALL = ["--model", NAME, "--steps", "1", "--batch-labeled", "1", "--batch-unlabeled", "1", "--crop", "64"]
SMALL += ["--workers", "0", "--device", "cpu", "--no-compile", "--no-tensorboard"]
SMALL += [f"--set=train.{name}" for name in ("window=64", "stride=64", "accumulate=1", "log_every=1")]
DATA = ["--data", "../data", "--classes", "../classes.csv"]
TABLE = "name,r,g,b\nred,255,0,0\nwhite,255,255,255\nunknown,0,0,0\n"


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Eight pairs of 64 px, a table of two classes and a run of one step."""
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S4AUG_CACHE", str(tmp_path_factory.mktemp("cache")))
        write_pairs(root / "data", 8)
        (root / "classes.csv").write_text(TABLE)
        made = World(root)
        with made.fresh():
            made.prepare("fit", *DATA, "--out", "run", "--labeled", "3", "--val", "2", *SMALL)
            (made.case / "run").rename(root / "run")
        yield made


def write_pairs(folder, count):
    """Images of noise, and masks that are red on the left and white on the right."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    mask = np.full((64, 64, 3), 255, np.uint8)
    mask[:, :32, 1:] = 0
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
