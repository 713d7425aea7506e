"""The cache survives crashes, full disks, rivals and whoever damages its entries."""

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from s4aug_train.data import cache, raster
from s4aug_train.data.cache import load_tiles
from s4aug_train.data.layouts import TileFile
from s4aug_train.errors import DataError, S4AugTrainError, UnreadableError
from tests.s4aug_train.data.cache_cases import TABLE, drafts, entries, labels_of, pair, pixels

pytestmark = pytest.mark.usefixtures("folder")


def test_processes_that_fill_one_cache_at_once_do_no_harm(tmp_path, folder):
    files = [pair(tmp_path / "data", str(i), seed=i) for i in range(6)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = [pool.submit(load_tiles, files, TABLE) for _ in range(2)]
        both = [result.result() for result in results]
    for tiles in both:
        for tile, file in zip(tiles, files, strict=True):
            np.testing.assert_array_equal(np.asarray(tile.image), pixels(file.image))
            np.testing.assert_array_equal(np.asarray(tile.labels), labels_of(file.mask))
    assert len(entries(folder)) == 12
    assert drafts(folder) == []


@pytest.mark.parametrize(("place", "name"), [(cache, "_decode_image"), (Path, "rename")])
def test_whoever_finishes_second_takes_the_entry_of_the_first(tmp_path, folder, monkeypatch, place, name):
    file = TileFile("x", pair(tmp_path / "data").image, None)
    original, inner = getattr(place, name), []

    def overtaken(*arguments):
        monkeypatch.setattr(place, name, original)
        inner.extend(load_tiles([file], TABLE))
        return original(*arguments)

    monkeypatch.setattr(place, name, overtaken)
    (outer,) = load_tiles([file], TABLE)
    assert outer.image.path == inner[0].image.path
    np.testing.assert_array_equal(np.asarray(outer.image), pixels(file.image))
    assert len(entries(folder)) == 1
    assert drafts(folder) == []


def test_a_rival_that_was_first_after_all_keeps_its_entry(tmp_path, folder, monkeypatch):
    """It gives its draft the name after this one has looked whether the entry is there."""
    file, inner = TileFile("x", pair(tmp_path / "data").image, None), []
    put = cache._put

    def overtaken(draft, home):
        monkeypatch.setattr(cache, "_put", put)
        inner.extend(load_tiles([file], TABLE))
        kept = (home / "entry.json").stat().st_ino
        put_or_not(draft, home)
        assert (home / "entry.json").stat().st_ino == kept

    def put_or_not(draft, home):
        with pytest.raises(OSError, match="not empty|exists"):
            put(draft, home)
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(cache, "_put", lambda draft, home: overtaken(draft, home))
    (outer,) = load_tiles([file], TABLE)
    assert outer.image.path == inner[0].image.path
    assert len(entries(folder)) == 1


def test_an_entry_of_which_a_part_was_removed_is_made_again(tmp_path, folder):
    file = pair(tmp_path / "data")
    (first,) = load_tiles([file], TABLE)
    for entry in entries(folder):
        (entry / "entry.json").unlink()
    (again,) = load_tiles([file], TABLE)
    np.testing.assert_array_equal(np.asarray(again.image), pixels(file.image))
    np.testing.assert_array_equal(np.asarray(again.labels), labels_of(file.mask))
    assert (first.id, drafts(folder)) == (again.id, [])


@pytest.mark.parametrize("failure", [RuntimeError("crash"), MemoryError(), DataError("bad pixels")])
def test_a_crash_while_decoding_leaves_neither_entry_nor_draft(tmp_path, folder, monkeypatch, failure):
    file = pair(tmp_path / "data")

    def crashing(info):
        yield next(iter(raster.read_strips(info, limit_bytes=500)))
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_strips", crashing)
        with pytest.raises(type(failure)):
            load_tiles([file], TABLE)
    assert entries(folder) == drafts(folder) == []
    (tile,) = load_tiles([file], TABLE)
    np.testing.assert_array_equal(np.asarray(tile.image), pixels(file.image))


def assert_names_the_cure(error: BaseException, folder: Path) -> None:
    assert "S4AUG_CACHE" in str(error)
    assert str(folder) in str(error)
    assert "\n" not in str(error)


def test_a_full_disk_is_told_in_one_line_with_the_cure(tmp_path, folder, monkeypatch):
    def full(self, top, rows):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache._ArrayWriter, "write_rows", full)
    with pytest.raises(S4AugTrainError, match="No space left") as caught:
        load_tiles([pair(tmp_path / "data")], TABLE)
    assert_names_the_cure(caught.value, folder)
    assert entries(folder) == drafts(folder) == []


def test_a_cache_folder_that_cannot_be_made_or_written_is_told_in_one_line(tmp_path, folder, monkeypatch):
    file = pair(tmp_path / "data")
    folder.write_text("a file in the way")
    with pytest.raises(S4AugTrainError, match="cannot write the cache") as caught:
        load_tiles([file], TABLE)
    assert_names_the_cure(caught.value, folder)
    folder.unlink()

    # Not by permissions: they do not bind root, as which tests run in containers.
    def read_only(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(S4AugTrainError, match="Read-only file system") as caught:
        load_tiles([file], TABLE)
    assert_names_the_cure(caught.value, folder)


def test_a_damaged_entry_is_told_in_one_line_with_the_cure(tmp_path, folder):
    file = TileFile("x", pair(tmp_path / "data").image, None)
    load_tiles([file], TABLE)
    (entry,) = entries(folder)
    (entry / "pixels.npy").rename(tmp_path / "kept.npy")
    (entry / "pixels.npy").write_bytes((tmp_path / "kept.npy").read_bytes()[:200])
    cache._mapped.cache_clear()
    with pytest.raises(S4AugTrainError, match=r"is damaged .*; delete it") as caught:
        load_tiles([file], TABLE)
    assert str(entry) in str(caught.value)
    assert "\n" not in str(caught.value)
    shutil.rmtree(entry)
    (tile,) = load_tiles([file], TABLE)
    np.testing.assert_array_equal(np.asarray(tile.image), pixels(file.image))


def test_entries_can_be_read_by_others_where_the_umask_allows(tmp_path, folder):
    before = os.umask(0o022)
    try:
        load_tiles([pair(tmp_path / "data")], TABLE)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in entries(folder)] == [0o755, 0o755]


def test_drafts_of_yesterday_are_swept_and_those_of_today_kept(demo_folder, tmp_path, monkeypatch):
    import os
    import time

    from s4aug_train.data.cache import VERSION
    from s4aug_train.data.layouts import find_tiles
    from s4aug_train.data.palette import DEEPGLOBE

    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path))
    old, new = (tmp_path / f"tiles-v{VERSION}" / "ab" / f".draft-1-{name}" for name in ("old", "new"))
    for draft in (old, new):
        draft.mkdir(parents=True)
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    load_tiles(list(find_tiles(demo_folder).labelled[:1]), DEEPGLOBE)
    assert not old.exists()
    assert new.exists()


def test_a_cache_that_cannot_be_written_is_no_file_to_leave_out(tmp_path, folder):
    file = pair(tmp_path / "data")
    folder.write_text("a file in the way")
    with pytest.raises(S4AugTrainError, match="cannot write the cache"):
        load_tiles([file], TABLE, on_unreadable=lambda name, why: None)


def test_a_limit_of_the_machine_is_no_damage_of_a_file(tmp_path, monkeypatch):
    (tile,) = load_tiles([pair(tmp_path / "data")], TABLE)

    def full(path, inode):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(cache, "_mapped", full)
    with pytest.raises(S4AugTrainError, match="Too many open files") as caught:
        np.asarray(tile.image)
    assert not isinstance(caught.value, UnreadableError)


def test_an_entry_that_vanishes_is_told_with_tile_and_source(tmp_path, folder):
    file = pair(tmp_path / "data")
    (tile,) = load_tiles([file], TABLE)
    np.asarray(tile.labels)
    shutil.rmtree(folder)
    with pytest.raises(UnreadableError, match=r"tile x: the cache entry .* of .*x_mask\.png is gone; start again"):
        np.asarray(tile.labels)


# In a process of its own: without the check it would be ended by a signal, and pytest with it.
CUT_SHORT = """
import os, sys
from pathlib import Path
import numpy as np
from s4aug_train.data.cache import load_tiles
from s4aug_train.data.layouts import TileFile
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.errors import UnreadableError

(tile,) = load_tiles([TileFile("x", Path(sys.argv[1]), None)], DEEPGLOBE)
whole = np.asarray(tile.image)
content = tile.image.path.read_bytes()
os.truncate(tile.image.path, 200)
try:
    np.asarray(tile.image[:, 50:])
except UnreadableError as error:
    print(error)
tile.image.path.with_suffix(".new").write_bytes(content)
tile.image.path.with_suffix(".new").rename(tile.image.path)
print(np.array_equal(np.asarray(tile.image), whole))
"""


def test_a_file_cut_short_under_its_map_is_an_error_until_another_takes_its_place(tmp_path):
    file = pair(tmp_path / "data", size=(100, 120))
    command = [sys.executable, "-c", CUT_SHORT, str(file.image)]
    told, again = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert "tile x: the cache entry" in told
    assert f"of {file.image} is damaged (200 of 36128 bytes are left)" in told
    assert again == "True"
