import errno

import pytest

from s4aug_train.errors import CheckpointError, ConfigError
from s4aug_train.reproduce.fits import is_held
from s4aug_train.run import RunFolder, claim, clear, find_checkpoint, fresh_run, held, lock, set_aside, tidy


def make_run(path):
    run = RunFolder(path)
    run.last.parent.mkdir(parents=True)
    for file in (run.config, run.last, run.metrics):
        file.write_text("x")
    return run


def test_fresh_runs_are_numbered_past_the_highest(tmp_path):
    assert fresh_run(tmp_path / "runs", "s4net").path.name == "001-s4net"
    (tmp_path / "007-full").mkdir()
    (tmp_path / "other").mkdir()
    assert fresh_run(tmp_path, "sup+affine").path.name == "008-sup-affine"


def test_a_folder_that_holds_something_needs_resume_or_overwrite(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="--resume.*--overwrite"):
        claim(run, resume=False, overwrite=False)
    claim(run, resume=True, overwrite=False)
    assert run.last.exists()
    claim(run, resume=False, overwrite=True)
    assert run.last.exists()  # nothing is touched before the new run is ready
    clear(run)
    assert not run.last.exists()


def test_event_files_go_with_their_run_and_what_else_lies_there_stays(tmp_path):
    run = make_run(tmp_path / "run")
    run.tensorboard.mkdir()
    for time in ("2", "1"):
        (run.tensorboard / f"events.out.tfevents.{time}.host").write_text("x")
    assert [path.name[-6:] for path in run.events()] == ["1.host", "2.host"]
    (run.tensorboard / "other").write_text("x")
    clear(run)
    assert [path.name for path in run.tensorboard.iterdir()] == ["other"]
    (run.tensorboard / "other").unlink()
    clear(run)
    assert not run.tensorboard.exists()


def test_a_run_that_failed_before_it_began_does_not_block_its_folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.log.write_text("error")
    claim(run, resume=False, overwrite=False)


def test_two_fresh_runs_never_share_a_folder(tmp_path):
    assert fresh_run(tmp_path, "s4net") != fresh_run(tmp_path, "s4net")


def test_a_run_is_held_by_one_process(tmp_path):
    run = RunFolder(tmp_path / "run")
    with held(run), pytest.raises(ConfigError, match="another run is writing"), held(run):
        pass
    assert not run.path.exists()  # nothing came of it
    with held(RunFolder(tmp_path / "a" / "b" / "c")):
        pass
    assert not (tmp_path / "a").exists()
    with held(run):
        run.log.write_text("x")
    assert [path.name for path in run.path.iterdir()] == ["log.txt"]


def test_a_lock_whose_file_its_holder_has_just_removed_is_none(tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()

    def lock_late(file):
        run.lock.unlink()  # the holder before ends
        return lock(file)

    monkeypatch.setattr("s4aug_train.run.lock", lock_late)
    with pytest.raises(ConfigError, match="another run is writing"), held(run):
        pass


def test_where_the_file_system_knows_no_locks_a_run_is_not_kept_out(tmp_path, monkeypatch):
    def no_locks(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("s4aug_train.run.fcntl.flock", no_locks)
    run = RunFolder(tmp_path / "run")
    with held(run):
        run.log.write_text("x")
        assert not is_held(run)
    assert run.log.exists()


def test_a_new_or_empty_folder_is_taken(tmp_path):
    claim(RunFolder(tmp_path / "new"), resume=False, overwrite=False)
    claim(RunFolder(tmp_path), resume=False, overwrite=False)


def test_overwrite_never_touches_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="no run"):
        claim(RunFolder(tmp_path), resume=False, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_overwrite_keeps_files_that_are_not_the_runs(tmp_path):
    run = make_run(tmp_path / "run")
    (run.path / "notes.md").write_text("mine")
    for path in (*run.checkpoints, run.report):
        path.write_text("x")
    set_aside(run.previous)
    claim(run, resume=False, overwrite=True)
    clear(run)
    assert [path.name for path in run.path.rglob("*") if path.is_file()] == ["notes.md"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        claim(RunFolder(tmp_path / "run"), resume=False, overwrite=True)


def test_a_run_or_a_file_names_a_checkpoint(tmp_path):
    run = make_run(tmp_path / "run")
    assert find_checkpoint(run.path) == run.last
    assert find_checkpoint(run.last) == run.last
    run.last.rename(run.previous)  # as a kill between two renames leaves it
    assert find_checkpoint(run.path) == run.previous
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(CheckpointError):
            find_checkpoint(path)


def test_what_is_set_aside_takes_no_ones_place(tmp_path):
    run = make_run(tmp_path / "run")
    names = []
    for content in ("first", "second"):
        run.last.write_text(content)
        names.append(set_aside(run.last).name)
    assert names == ["last.pt.damaged", "last.pt.damaged1"]
    assert [run.last.with_name(name).read_text() for name in names] == ["first", "second"]


def test_only_what_killed_writers_left_is_tidied_up(tmp_path):
    run = make_run(tmp_path / "run")
    before = sorted(run.path.rglob("*"))
    for name in ("checkpoints/.last.pt.17.0a1b2c3d.tmp", ".metrics.jsonl.17.0a1b2c3d.tmp"):
        (run.path / name).write_text("half")
    tidy(run)
    assert sorted(run.path.rglob("*")) == before
