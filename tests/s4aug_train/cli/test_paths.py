"""Names that a file system allows and nobody expects, links of all sorts, and folders that cannot be written to."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from s4aug_train.data.raster import read_image
from s4aug_train.engine import Checkpoint
from s4aug_train.files import shell_path
from s4aug_train.records import Stopped
from tests.s4aug_train.cli.paths_cases import OWN, SMALL, SORT_OF_ALL, WIDE, every_command, in_a_shell, tree
from tests.s4aug_train.command import call

NETWORK = """
import torch

def network(classes, bands):
    torch.manual_seed(0)
    return torch.nn.Conv2d(bands, classes, 1)
"""


def error_of(*arguments):
    """The one line of a command that must fail."""
    result = call(*arguments, code=1)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith(("error: ", "failed: "))]
    assert result.stderr.endswith(f"{line}\n")
    return line


@pytest.fixture(scope="module", autouse=True)
def own_network(tmp_path_factory):
    """A network that costs nothing, under a name that commands can be given."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "network_of_test_paths.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, demo_folder, own_network, shared_cache):
    out = tmp_path_factory.mktemp("runs") / "run"
    call("fit", "--data", demo_folder, "--out", out, *SMALL)
    return out


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The current folder, so that names are used as they are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def raster(demo_folder):
    return next((demo_folder / "valid").glob("*.jpg"))


@pytest.fixture
def read_only(tmp_path):
    """A function that makes a folder read-only, for root too."""
    mounted = []

    def seal(folder):
        if os.geteuid() != 0:
            for path in [*folder.rglob("*"), folder]:
                path.chmod(0o555 if path.is_dir() else 0o444)
        else:
            for options in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
                done = subprocess.run(["mount", *options], capture_output=True)
                if done.returncode:
                    pytest.skip(f"root may write anywhere, and cannot mount here: {done.stderr.decode().strip()}")
                mounted.append(folder)
        return folder

    yield seal
    for folder in set(mounted):
        # Lazily: maps of its files may be held still.
        subprocess.run(["umount", "--lazy", folder], check=True)
    if not mounted:
        for path in [tmp_path, *tmp_path.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


class Texts(HTMLParser):
    """The text of a page, and its elements."""

    def __init__(self):
        super().__init__()
        self.text, self.names = "", set()

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)


def test_every_command_takes_a_name_of_all_sorts_and_leaves_the_data_as_it_was(home, demo_folder):
    out = every_command(home, demo_folder, SORT_OF_ALL)
    page = Texts()
    page.feed((out / f"{SORT_OF_ALL}.html").read_text(encoding="utf-8"))
    assert SORT_OF_ALL in page.text
    assert "script" not in page.names


@pytest.mark.slow
@pytest.mark.parametrize("sort", WIDE)
def test_every_command_takes_names_of_each_sort(home, demo_folder, sort):
    every_command(home, demo_folder, WIDE[sort])


def test_the_command_to_go_on_with_can_be_copied_into_a_shell(home, demo_folder, monkeypatch):
    monkeypatch.setattr("s4aug_train.training.training", lambda *_, **__: iter([Stopped(1)]))
    result = call("fit", "--data", demo_folder, "--out", f"./{SORT_OF_ALL}", *SMALL, code=143)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("stopped; go on with: ")]
    assert in_a_shell(line.split(": ", 1)[1], home) == ["fit", "--out", f"./{SORT_OF_ALL}", "--resume"]


def test_what_is_told_stays_one_line_whatever_a_name_holds(home, demo_folder, raster, run):
    name = "a\nerror: b\x1b[31m\u202e"
    assert r"folder a\nerror: b\x1b[31m\u202e does not exist" in error_of("doctor", "--data", name)
    (home / name).write_bytes(b"no image")
    assert r"a\nerror: b\x1b[31m\u202e cannot be read" in error_of("predict", run, *OWN, name, "--out", "maps")


def test_names_that_are_no_text_are_shown_or_told(home, demo_folder, raster, run):
    name = os.fsdecode(b"a\xff")
    try:
        shutil.copytree(demo_folder, name)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    assert "UTF-8" in call("doctor", "--data", name, code=1).stdout
    assert r"a\udcff/train/" in error_of("fit", "--data", name, "--out", "run", *SMALL)
    call("fit", "--data", demo_folder, "--out", f"{name}-run", *SMALL)
    call("evaluate", f"{name}-run", *OWN, "--out", f"{name}.json")
    call("report", f"{name}-run", *OWN)
    for command in (
        ("preview", "--data", demo_folder, "--crop", 64, "--out", f"{name}.png"),
        ("predict", run, *OWN, raster, "--out", f"{name}-maps"),
        ("demo-data", f"{name}-demo", "--tiles", 1, "--size", 64),
    ):
        assert "a name in it is not UTF-8" in error_of(*command)


def test_links_to_folders_and_tiles_are_followed(home, demo_folder, run):
    (home / "data").symlink_to(demo_folder)
    (home / "real").mkdir()
    (home / "out").symlink_to("real")
    call("fit", "--data", "data", "--out", "out", *SMALL)
    assert (home / "real" / "checkpoints" / "last.pt").is_file()
    shutil.copytree(demo_folder, home / "tiles")
    for image in sorted((home / "tiles" / "train").iterdir())[:4]:
        moved = image.rename(home / image.name)
        image.symlink_to(moved)
    (home / "tiles" / "train" / "back").symlink_to(home / "tiles")
    call("fit", "--data", "tiles/../tiles//", "--out", "linked", *SMALL)
    splits = [json.loads((home / out / "splits.json").read_text()) for out in ("real", "linked")]
    assert splits[0] == splits[1]
    call("predict", run, *OWN, "tiles", "--out", "maps")


@pytest.mark.parametrize("link", ["loop", "dangling"])
def test_links_that_lead_nowhere_are_told_in_one_line(home, demo_folder, raster, run, link):
    (home / "loop").symlink_to("loop")
    (home / "dangling").symlink_to("nowhere")
    for command in (
        ("doctor", "--data", link),
        ("fit", "--data", link, "--out", "r", *SMALL),
        ("fit", "--data", demo_folder, "--unlabeled", link, "--out", "r", *SMALL),
        ("fit", "--data", demo_folder, "--classes", link, "--out", "r", *SMALL),
        ("fit", "--data", demo_folder, "--out", link, *SMALL),
        ("fit", "--out", "r", "--resume", link),
        ("evaluate", link, *OWN),
        ("evaluate", run, *OWN, "--data", link),
        ("evaluate", run, *OWN, "--split", link),
        ("predict", link, *OWN, raster, "--out", "maps"),
        ("predict", run, *OWN, link, "--out", "maps"),
        ("predict", run, *OWN, raster, "--out", link),
        ("report", link, *OWN),
        ("export", link, *OWN, "--format", "safetensors", "--out", "a.safetensors"),
        ("preview", "--data", demo_folder, "--crop", 64, "--out", f"{link}/a.png"),
    ):
        assert link in error_of(*command)


def test_tiles_that_are_links_to_nowhere_are_told_or_left_out(home, demo_folder, run):
    data = shutil.copytree(demo_folder, home / "data")
    for name, to in (
        ("train/999999_sat.jpg", "gone"),
        ("train/999999_mask.png", "gone"),
        ("valid/8_sat.jpg", "8_sat.jpg"),
    ):
        (data / name).symlink_to(to)
    assert "_sat.jpg" in error_of("fit", "--data", data, "--out", "a", *SMALL)
    call("fit", "--data", data, "--out", "b", *SMALL, "--set", "data.unreadable=skip")
    lines = call("predict", run, *OWN, data, "--out", "maps", code=1).stderr.splitlines()
    assert sorted(line.split(" does not exist")[0] for line in lines if line.startswith("failed: ")) == [
        f"failed: {data}/train/999999_sat.jpg",
        f"failed: {data}/valid/8_sat.jpg",
    ]
    assert len(list((home / "maps").glob("*.tif"))) == 15


@pytest.mark.parametrize(
    "name", ["GTIFF_DIR:1:x.jpg", "NETCDF:x.jpg", "vrt:x.jpg", "zip:x.jpg", "a?b=c#d,e.jpg", "-x.jpg"]
)
def test_a_file_is_that_file_whatever_gdal_makes_of_its_name(home, raster, run, name):
    shutil.copy(raster, name)
    np.testing.assert_array_equal(read_image(Path(name)), read_image(raster))
    call("predict", run, *OWN, f"./{name}", "--out", "maps")
    assert (home / "maps" / name).with_suffix(".tif").is_file()


def test_paths_within_archives_are_no_files(home, run):
    assert "does not exist" in error_of("predict", run, *OWN, "/vsizip/a.zip/a.jpg", "--out", "maps")
    assert "does not exist" in error_of("doctor", "--data", "/vsizip/a.zip")


def test_names_that_are_too_long_are_told(home, demo_folder, raster, run):
    name = "n" * 256
    for command in (
        ("fit", "--data", name, "--out", "r", *SMALL),
        ("fit", "--data", demo_folder, "--out", name, *SMALL),
        ("evaluate", name, *OWN),
        ("predict", run, *OWN, name, "--out", "maps"),
        ("predict", run, *OWN, raster, "--out", name),
    ):
        assert os.strerror(errno.ENAMETOOLONG) in error_of(*command)
    # The map has a name of 255 bytes; only those of its temporary files would be longer.
    shutil.copy(raster, "n" * 251 + ".jpg")
    call("predict", run, *OWN, "n" * 251 + ".jpg", "--out", "maps")
    assert [path.name for path in (home / "maps").iterdir()] == ["n" * 251 + ".tif"]


def test_commands_that_read_need_nothing_to_be_written(home, demo_folder, run, read_only):
    sealed = home / "sealed"
    data = shutil.copytree(demo_folder, sealed / "data")
    old = shutil.copytree(run, sealed / "run")
    read_only(sealed)
    with pytest.raises(OSError, match=r"Read-only|denied"):
        (sealed / "new").write_text("")
    call("doctor", "--data", data)
    call("split", "--data", data, "--labeled", 2, "--val", 2, "--out", "split.json")
    call("preview", "--data", data, "--crop", 64, "--out", "picture.png")
    call("fit", "--data", data, "--out", "new", *SMALL)
    call("evaluate", old, *OWN, "--data", data)
    call("predict", old, *OWN, data, "--out", "maps")
    call("report", old, *OWN, "--out", "page.html")
    call("export", old, *OWN, "--format", "safetensors", "--out", "network.safetensors")


def test_a_folder_that_cannot_be_written_to_is_told_in_one_line(home, demo_folder, raster, run, read_only):
    sealed = home / "sealed"
    sealed.mkdir()
    old = shutil.copytree(run, sealed / "run")
    read_only(sealed)
    before = tree(sealed)
    for command in (
        ("doctor", "--data", demo_folder, "--write-classes", sealed / "a.csv"),
        ("split", "--data", demo_folder, "--labeled", 2, "--val", 2, "--out", sealed / "a.json"),
        ("preview", "--data", demo_folder, "--crop", 64, "--out", sealed / "a.png"),
        ("fit", "--data", demo_folder, "--out", sealed / "new" / "run", *SMALL),
        ("fit", "--out", old, "--resume", *OWN),
        ("fit", "--data", demo_folder, "--out", old, "--overwrite", *SMALL),
        ("evaluate", old, *OWN, "--out", sealed / "a.json"),
        ("predict", old, *OWN, raster, "--out", sealed / "maps"),
        ("report", old, *OWN),
        ("export", old, *OWN, "--format", "safetensors", "--out", sealed / "a.safetensors"),
        ("demo-data", sealed / "demo"),
    ):
        assert str(sealed) in error_of(*command)
    assert tree(sealed) == before


def test_a_cache_that_is_filled_need_not_be_written_to(home, demo_folder, read_only, monkeypatch):
    cache = home / "cache"
    monkeypatch.setenv("S4AUG_CACHE", str(cache))
    call("fit", "--data", demo_folder, "--out", "a", *SMALL)
    read_only(cache)
    call("fit", "--data", demo_folder, "--out", "b", *SMALL)
    new = shutil.copytree(demo_folder, home / "new")
    assert "S4AUG_CACHE" in error_of("fit", "--data", new, "--out", "c", *SMALL)
    assert "S4AUG_CACHE" in error_of("fit", "--data", "demo", "--out", "d", *SMALL)


def test_a_home_that_cannot_be_written_to_or_is_not_there_is_told(home, demo_folder, run, raster, monkeypatch):
    monkeypatch.delenv("S4AUG_CACHE")
    (home / "file").write_text("")
    monkeypatch.setenv("HOME", str(home / "file"))
    assert "S4AUG_CACHE" in error_of("fit", "--data", demo_folder, "--out", "a", *SMALL)
    assert "S4AUG_CACHE" in error_of("fit", "--data", "demo", "--out", "a", *SMALL)
    call("predict", run, *OWN, raster, "--out", "maps")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", _nobody)
    assert "set S4AUG_CACHE" in error_of("fit", "--data", demo_folder, "--out", "a", *SMALL)


def _nobody(number):
    raise KeyError(number)


@pytest.mark.slow
def test_two_runs_on_one_empty_cache_beside_each_other_are_what_each_is_alone(home, demo_folder, own_network):
    path = os.pathsep.join([str(own_network), str(Path(__file__).resolve().parents[3])])
    environment = {**os.environ, "S4AUG_CACHE": str(home / "cache"), "PYTHONPATH": path}
    arguments = [str(part) for part in ["fit", "--data", demo_folder, *SMALL, "--steps", 20, "--set", "train.pool=map"]]
    command = [sys.executable, "-m", "s4aug_train", *arguments]
    # Without --out: each must take a number of its own, too.
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=500)[1].count("Traceback") == 0
        assert process.returncode == 0
    call(*arguments, "--out", "alone")
    runs = sorted((home / "runs").iterdir())
    assert [run.name for run in runs] == ["001-s4net", "002-s4net"]
    weights = [_weights(run) for run in (*runs, home / "alone")]
    assert weights[0] == weights[1] == weights[2]
    assert not list((home / "cache").rglob(".draft-*"))


def _weights(run):
    network = Checkpoint.read(run / "checkpoints" / "last.pt").network
    return {name: value.tolist() for name, value in network.items()}


def test_shell_paths_are_one_word(home):
    for name in (*WIDE.values(), SORT_OF_ALL, "plain"):
        (word,) = in_a_shell(f"s4aug-train {shell_path(Path(name))}", home)
        assert Path(word) == Path(name)
        assert not word.startswith("-")
        assert shlex.split(shell_path(Path(name))) == [word]
