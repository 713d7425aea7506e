"""A report of real runs: what it says is what an evaluation says, and what is not there is told, not guessed."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import s4aug_train
from s4aug_train import gathering
from s4aug_train.cli import main
from s4aug_train.errors import CheckpointError, ConfigError, DataError, S4AugTrainError
from s4aug_train.gathering import gather
from s4aug_train.presets import configured
from s4aug_train.showing import Wanted


class Small(torch.nn.Module):
    """One layer."""

    def __init__(self, classes, bands):
        super().__init__()
        self.layer = torch.nn.Conv2d(bands, classes, 3, padding=1)

    def forward(self, images):
        return self.layer(images)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, demo_folder, shared_cache):
    """Two finished runs of a small network: supervised, and s4net."""
    parent = tmp_path_factory.mktemp("runs")
    for method in ("supervised", "s4net"):
        settings = {"method.name": method, "data.path": str(demo_folder), "data.labeled": 4, "data.val": 4}
        settings |= {"train.steps": 6, "train.crop": 64, "train.log_every": 2, "train.window": 64, "train.stride": 32}
        settings |= {"train.device": "cpu", "train.workers": 0, "train.batch_labeled": 2, "train.batch_unlabeled": 1}
        config = configured({**settings, "model.factory": "small_parts:small", "model.weights": "none"})
        (parent / "small_parts.py").write_text(
            "import importlib.util, sys\n"
            f"spec = importlib.util.spec_from_file_location('small_network', {str(Path(__file__))!r})\n"
            "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\nsmall = module.Small\n"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(parent))
            s4aug_train.fit(config, out=parent / method)
    return parent


@pytest.fixture(autouse=True)
def findable(runs, monkeypatch):
    monkeypatch.syspath_prepend(str(runs))


SMALL = {"model.factory": "small_parts:small"}


@pytest.fixture(scope="module")
def both(runs):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(runs))
        return gather([runs / "supervised", runs / "s4net"], Wanted(SMALL, unlabelled=5))


def test_scores_are_those_of_evaluate(runs, both):
    for run in both.runs:
        record = s4aug_train.evaluate(runs / run.name, SMALL)
        assert run.scores.assessment.miou == pytest.approx(record.miou)
        assert run.scores.assessment.iou() == pytest.approx(record.iou)
        assert run.counts["val"] == len(run.scores.assessment.tiles) == 4
    (versus,) = both.versus
    first, second = (run.scores.assessment.miou for run in both.runs)
    assert versus.comparison.difference == pytest.approx(second - first)
    assert both.notes == ()


def test_tiles_are_held_out_and_every_run_predicts_them(both):
    held_out = {tile.id for tile in both.runs[1].scores.assessment.tiles}
    rows = [row for group in both.groups for row in group.rows]
    assert sorted(row.tile for row in rows) == sorted(held_out)  # each once
    for row in rows:
        assert len([picture for picture in row.predictions if picture is not None]) == 2
        for run, right in zip(both.runs, row.right, strict=True):
            (score,) = [tile for tile in run.scores.assessment.tiles if tile.id == row.tile]
            assert right == pytest.approx(np.trace(score.confusion) / score.confusion.sum())


def test_unlabelled_tiles_are_ranked_by_the_entropy_of_their_predictions(runs, both, demo_folder):
    found = both.labelling
    assert (found.run, len(found.tiles), found.all) == (1, 5, both.runs[1].counts["unlabeled"])
    assert [tile.entropy for tile in found.tiles] == sorted((tile.entropy for tile in found.tiles), reverse=True)
    # By PyTorch alone, on the file itself.
    content = torch.load(runs / "s4net" / "checkpoints" / "last.pt", weights_only=True)
    network = Small(6, 3)
    network.load_state_dict({key.removeprefix("network."): value for key, value in content["network"].items()})
    mean, std = (torch.tensor(content["normalization"][part])[:, None, None] for part in ("mean", "std"))
    for tile in found.tiles:
        (file,) = demo_folder.rglob(f"{Path(tile.tile).name}_sat.jpg")
        with Image.open(file) as opened:
            pixels = torch.from_numpy(np.asarray(opened, np.float32)).permute(2, 0, 1)
        with torch.no_grad():
            logits = network(((pixels - mean) / std)[None])
        entropy = torch.distributions.Categorical(logits=logits.permute(0, 2, 3, 1)).entropy().mean() / np.log(6)
        assert tile.entropy == pytest.approx(float(entropy), abs=2e-3)


def test_the_command_writes_one_page_and_says_where(runs, tmp_path):
    out = tmp_path / "new" / "page.html"
    arguments = ["report", str(runs / "supervised"), str(runs / "s4net"), "--model", "small_parts:small"]
    more = ["--unlabeled-tiles", "2", "--title", "Fields & <towns>"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(out), *more])
    assert result.exit_code == 0, result.output
    assert re.fullmatch(rf"{re.escape(str(out))}: \d\.\d\d MB\n", result.stdout)
    text = out.read_text(encoding="utf-8")
    assert "<title>Fields &amp; &lt;towns&gt;</title>" in text
    assert out.stat().st_size < 5e6
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_one_run_has_its_page_in_its_folder(runs, tmp_path):
    run = shutil.copytree(runs / "supervised", tmp_path / "alone")
    assert s4aug_train.report(run, SMALL, unlabelled=0) == run / "report.html"
    assert "Report of alone" in (run / "report.html").read_text(encoding="utf-8")


def test_a_run_that_goes_on_or_whose_data_or_code_is_gone_is_shown_without_scores(runs, tmp_path):
    begun = shutil.copytree(runs / "s4net", tmp_path / "begun")
    shutil.rmtree(begun / "checkpoints")
    damaged = shutil.copytree(runs / "s4net", tmp_path / "damaged")
    (damaged / "checkpoints" / "last.pt").write_bytes(b"no checkpoint")
    found = gather([begun, damaged, runs / "s4net"], Wanted())
    assert [run.scores for run in found.runs] == [None, None, None]
    assert all(len(run.lines) > 3 for run in found.runs)
    assert found.runs[0].missing == "It has no checkpoint yet."
    assert "damaged is shown without an evaluation" in found.notes[0]
    assert "say so with --model small_parts:small" in found.notes[1]
    moved = shutil.copytree(runs / "s4net", tmp_path / "moved")
    checkpoint = moved / "checkpoints" / "last.pt"
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["data"]["path"] = str(tmp_path / "gone")
    torch.save(content, checkpoint)
    found = gather([moved], Wanted(SMALL))
    assert found.runs[0].scores is None
    assert str(tmp_path / "gone") in found.notes[0]


def test_a_run_that_goes_on_is_shown_as_it_was_when_it_was_read(runs, tmp_path, monkeypatch):
    going = shutil.copytree(runs / "s4net", tmp_path / "going")
    checkpoint = going / "checkpoints" / "last.pt"
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["train"]["steps"] = content["step"] + 1
    torch.save(content, checkpoint)
    assess = gathering.assess

    def assess_and_go_on(*arguments, **options):
        found = assess(*arguments, **options)
        checkpoint.write_bytes(b"the next one")
        return found

    monkeypatch.setattr(gathering, "assess", assess_and_go_on)
    found = gather([going], Wanted(SMALL, unlabelled=2))
    assert found.runs[0].scores is not None
    assert any(row.predictions[0] is not None for group in found.groups for row in group.rows)
    assert len(found.labelling.tiles) == 2


def test_another_place_of_the_data_helps_and_a_wrong_one_is_an_error(runs, demo_folder, tmp_path):
    copy = shutil.copytree(demo_folder, tmp_path / "copy")
    found = gather([runs / "s4net"], Wanted({**SMALL, "data.path": str(copy)}, unlabelled=0))
    assert found.runs[0].scores is not None
    with pytest.raises(DataError, match="absent"):
        gather([runs / "s4net"], Wanted({**SMALL, "data.path": str(tmp_path / "absent")}))


def test_runs_that_hold_out_other_tiles_are_compared_on_those_that_both_do(runs, tmp_path):
    other = shutil.copytree(runs / "s4net", tmp_path / "other")
    checkpoint = other / "checkpoints" / "last.pt"
    content = torch.load(checkpoint, weights_only=True)
    content["split"]["val"] = content["split"]["val"][1:]
    torch.save(content, checkpoint)
    found = gather([runs / "supervised", other], Wanted(SMALL, unlabelled=0))
    assert found.versus[0].comparison.tiles == 3
    assert found.versus[0].why == "of the 3 and 4 that they hold out"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing argument 'RUN...'"),
        (["absent"], 1, "absent does not exist; give a run folder"),
        (["{run}", "{run}"], 1, "a report of several runs, or of a checkpoint file, needs --out FILE.html"),
        (["{run}/checkpoints/last.pt"], 1, "needs --out FILE.html"),
        (["{run}", "--out", "{run}"], 1, "is a folder; give a file"),
        (["{run}", "--out", "{run}/config.yaml/report.html"], 1, "config.yaml is no folder that can be written to"),
        (["{run}/../small_parts.py", "--out", "x.html"], 1, "cannot be read as a checkpoint"),
        (["{run}", "--set", "train.lr=1", "--out", "x.html"], 1, "train.lr has no say in an evaluation"),
        (["{run}", "--title", " "], 1, "--title is empty; leave it out"),
        (["{run}", "--unlabeled-tiles", "-1"], 2, "-1 is not in the range"),
    ],
)
def test_mistakes_are_told_in_one_line_and_nothing_is_written(runs, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    named = [argument.format(run=runs / "s4net") for argument in arguments]
    result = CliRunner().invoke(main, ["report", *named])
    assert result.exit_code == code
    assert message in result.stderr
    assert code == 2 or len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert not (runs / "s4net" / "report.html").exists()


def test_errors_from_python_are_ours(tmp_path):
    with pytest.raises(ConfigError, match="needs at least one run"):
        s4aug_train.report([])
    with pytest.raises(CheckpointError, match="does not exist"):
        s4aug_train.report(tmp_path / "absent", out=tmp_path / "x.html")


def test_several_processes_are_refused(runs, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="made by one process; leave out torchrun"):
        s4aug_train.report(runs / "s4net")


def test_a_page_that_cannot_be_written_is_told(runs, tmp_path, file_limit):
    out = tmp_path / "report.html"
    out.write_text("older")
    with file_limit(1000), pytest.raises(S4AugTrainError, match="cannot write"):
        s4aug_train.report(runs / "supervised", out=out, unlabelled=0)
    assert out.read_text() == "older"
