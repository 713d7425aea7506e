"""Files are whole or absent, whatever happens while they are written."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from s4aug_train.errors import S4AugTrainError
from s4aug_train.files import (
    append_text,
    atomic_path,
    content_hash,
    parse_json,
    real_path,
    remove_dead_remains,
    remove_remains,
    write_bytes,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_what_is_read_and_nothing_else_is_left(tmp_path):
    write_bytes(tmp_path / "new/deep/a.bin", b"\x00\xff\r\n")
    write_text(tmp_path / "b.txt", "ü\n")
    write_json(tmp_path / "c.json", {"a": [1, None, 0.1]})
    assert (tmp_path / "new/deep/a.bin").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "b.txt").read_bytes() == b"\xc3\xbc\n"
    assert json.loads((tmp_path / "c.json").read_text()) == {"a": [1, None, 0.1]}
    assert names(tmp_path) == ["b.txt", "c.json", "new"]


@pytest.mark.parametrize("failure", [RuntimeError("mine"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
@pytest.mark.parametrize("old", [True, False])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, failure, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text("old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise failure

    expected = S4AugTrainError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        interrupted()
    assert names(tmp_path) == ["a.txt"] * old
    assert not old or path.read_text() == "old"


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import sys, time; from pathlib import Path; from s4aug_train.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('half', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert path.read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be synced there")
def test_the_file_is_synced_before_it_has_its_name_and_the_folder_after(tmp_path, monkeypatch):
    path, seen, fsync = tmp_path / "a.txt", [], os.fsync

    def noted(descriptor):
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_text(path, "x")
    assert seen == [(False, False), (True, True)]


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    def refused(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


@pytest.mark.parametrize("write", [write_text, append_text])
def test_a_full_disk_is_told_in_one_line_with_the_cure(tmp_path, file_limit, write):
    path = tmp_path / "a.txt"
    path.write_text("old\n")
    with file_limit(50), pytest.raises(S4AugTrainError, match=r"a\.txt: File too large; free some space"):
        write(path, "new " * 20)
    assert path.read_text().startswith("old\n")
    assert names(tmp_path) == ["a.txt"]


def test_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as one, atomic_path(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("write", [lambda path: write_text(path, "x"), lambda path: append_text(path, "x")])
def test_a_place_that_cannot_be_written_to_is_told_in_one_line_with_the_cure(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    cures = {"file/a.txt": "free some space or choose another folder", "n" * 300: "give a shorter name"}
    for path, cure in ((tmp_path / name, cure) for name, cure in cures.items()):
        with pytest.raises(S4AugTrainError, match=cure) as caught:
            write(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_appending_keeps_what_is_there(tmp_path):
    append_text(tmp_path / "a.txt", "ä\n")
    append_text(tmp_path / "a.txt", "b\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\nb\n".encode()


def test_the_hash_is_that_of_the_value_and_not_of_its_order():
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": (1, 2), "a": 1})
    different = [{"a": 1}, {"a": 2}, {"b": 1}, [1, 2], [2, 1], [12], ["1", 2], None]
    assert len({content_hash(value) for value in different}) == len(different)
    # Kept in manifests and names of cache entries: must not change between releases.
    assert content_hash({"labeled": ["a"], "val": []}) == "a3d84671dbbcb9fd"


def test_remains_of_dead_writers_go_and_those_of_running_ones_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with atomic_path(tmp_path / "map.tif") as temporary:
        temporary.write_text("whole")
    own = f"-{os.getpid()}."
    assert own in temporary.name
    written = [temporary.name.replace(own, f"-{number}.") for number in (dead.pid, running.pid, os.getpid())]
    here, there = temporary.name.removeprefix(".map.tif.").split("-")[0], "abcdef"
    stay = [written[1], written[0].replace(here, there), written[0].replace("map.tif", "map.tiff")]
    for name in (*written, written[0].replace(".tmp", ".draft.tmp"), *stay):
        (tmp_path / name).write_text("half")
    remove_dead_remains(tmp_path / "map.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*stay, "map.tif"])
    running.communicate(b"\n")


def test_a_failure_takes_the_folders_that_were_made_for_it_along(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "mine" / "b" / "c" / "d.txt"):
        raise RuntimeError
    assert names(tmp_path) == ["mine"]
    assert names(tmp_path / "mine") == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(S4AugTrainError, match="it is there and is no file; .*choose another"):
        write_text(tmp_path / "pipe", "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(S4AugTrainError, match="cannot write /dev/null"):
        write_text(Path("/dev/null"), "x")


def test_json_that_is_nested_too_deeply_is_none():
    assert parse_json('[{"a": 1}]') == [{"a": 1}]
    for text in ("[" * 100_000, "[1", b"\xff"):
        with pytest.raises(ValueError, match="."):
            parse_json(text)


@pytest.mark.parametrize("name", ["n" * 255, "\u571f" * 85, "short[1]*.bin"])
def test_a_name_that_the_disk_takes_can_be_written_and_its_remains_go(tmp_path, name):
    path = tmp_path / name
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"newer")
    # As another process would have left them, which is gone: no process has so high a number.
    remains = tmp_path / temporary.name.replace(f"-{os.getpid()}.", "-99999999.")
    other = tmp_path / f"x{remains.name}"
    for remove in (remove_dead_remains, remove_remains):
        for file in (remains, other):
            file.write_bytes(b"half")
        remove(path)
        assert set(names(tmp_path)) == {name, other.name}


def test_links_are_followed_as_far_as_they_lead(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    assert real_path(tmp_path / "link") == (tmp_path / "file").resolve()
    assert real_path(tmp_path / "loop").name == "loop"
