"""What several trainer tests need: a small demo set, a cache of their own, and the real tiles where they are."""

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from s4aug_train.data.cache import Tile


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory):
    """A demo set of 12 pairs and 3 unlabelled images of 64 px."""
    from s4aug_train.data.synthetic import Demo, write_demo

    return write_demo(tmp_path_factory.mktemp("demo") / "set", Demo(tiles=12, unlabeled=3, size=64, seed=3))


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """Decoded tiles go to a folder of this test session, never to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S4AUG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data():
    """The folder with real tiles."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("S4AUG_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real tiles at {folder}; set S4AUG_DATA")
    return folder


@pytest.fixture
def make_tile():
    """A function that makes tiles in memory."""

    def make(size=(64, 64), *, name="tile", bands=3, seed=0, labelled=True, dtype=np.uint8, valid=None):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (bands, *size)).astype(dtype)
        labels = rng.integers(0, 6, size).astype(np.uint8) if labelled else None
        wide = image.reshape(bands, -1).astype(np.float64)
        sums = np.stack([np.full(bands, wide.shape[1]), wide.sum(1), (wide * wide).sum(1)])
        counts = tuple(np.bincount(labels.ravel(), minlength=6).tolist()) if labelled else ()
        return Tile(name, image, labels, valid, counts, sums)

    return make


@pytest.fixture
def file_limit():
    """A context in which no file of this process can grow beyond so many bytes: a full disk for all that is larger."""
    resource = pytest.importorskip("resource", reason="the system limits no file sizes")

    @contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
