"""What the contests of training are held to is right itself, and the plain script is the same algorithm."""

import argparse
import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import plain_script
from benchmarks.cases import FULL, VERIFY, base_case
from benchmarks.contests import make_contest
from benchmarks.fitting import Loop, steps_in_record, steps_in_turn
from benchmarks.tiles import deepglobe_folder, tiles_in_files, tiles_in_memory
from benchmarks.training import STEP, STEPS, DescentByHand, make_setup
from s4aug_train.config import TrainConfig
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.data.pool import Pool
from s4aug_train.methods.s4net import S4Net
from s4aug_train.records import StepRecord


@pytest.fixture(autouse=True)
def _one_thread():
    """On a busy machine threads wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wrong(contender, raw):
    return [finding.what for finding in contender.judge(raw) if not finding.error <= finding.limit]


def test_steps_by_hand_are_those_of_torch():
    config = TrainConfig(steps=10)
    network = torch.nn.Linear(5, 3)
    other = copy.deepcopy(network)
    descent = DescentByHand(network, config)
    optimizer = torch.optim.SGD(
        other.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    points = torch.randn(4, 7, 5)
    for step, batch in enumerate(points):
        descent.step(torch.autograd.grad(network(batch).square().sum(), descent.parameters), step)
        optimizer.zero_grad()
        other(batch).square().sum().backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(list(network.parameters()), list(other.parameters()))


def test_tiles_in_files_are_those_in_memory():
    for held, mapped in zip(tiles_in_memory(96), tiles_in_files(96), strict=True):
        one, other = (
            Pool(tiles, 64, labelled=held[0].labels is not None).crops(0, 3, "a", 4) for tiles in (held, mapped)
        )
        assert torch.equal(one.images, other.images)
        assert one.labels is None or torch.equal(one.labels, other.labels)


def test_waiting_is_the_mean_over_the_records_of_a_turn():
    loop = object.__new__(Loop)
    loop.count, loop.waits = 2, []
    records = [StepRecord(10, *[0.0] * 6, 3.0, share, 0.0) for share in (0.05, 0.1)]
    loop.records = iter(records)
    assert loop() is records[0]
    assert loop.figures() == {"data wait": pytest.approx(0.075)}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", ["trainer", "script"])
def test_a_turn_is_whole_records(kind, device):
    case = base_case(kind, FULL, device)
    assert steps_in_turn(case) % steps_in_record(case) == 0
    assert STEP % steps_in_record(case) == 0


def test_a_wrong_path_is_found(monkeypatch):
    contest = make_contest(base_case("script", VERIFY, "cpu"))
    ours, script = contest.contenders
    record = ours.run()
    assert wrong(ours, record) == []
    assert wrong(ours, replace(record, loss_consistency=1.1 * record.loss_consistency)) == ["consistency"]
    moved_once = plain_script.consistency
    monkeypatch.setattr(
        plain_script, "consistency", lambda a, v, b, w: moved_once(a, v, b, w._replace(matrix=v.matrix))
    )
    losses = script.run()
    assert "consistency" in wrong(script, losses)
    assert "supervised" not in wrong(script, losses)


def test_the_script_reads_masks_as_we_do():
    colours = np.array([(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    colours = colours[colours.any(1) & ~(colours == (255, 0, 0)).all(1)].T[:, None]  # [3, 1, 6]
    ours, unknown = DEEPGLOBE.decode(colours)
    assert not unknown
    assert plain_script.to_labels(torch.from_numpy(colours)).tolist() == ours.tolist()
    assert plain_script.to_labels(torch.zeros(3, 1, 1, dtype=torch.uint8)).item() == plain_script.IGNORE


def test_the_script_weighs_as_we_do():
    method = S4Net(make_setup(base_case("script", VERIFY, "cpu")))
    training = object.__new__(plain_script.Training)
    training.options = argparse.Namespace(steps=STEPS)
    for step in (0, 1_000, STEP - 1, STEP, STEPS - 1):
        training.done = step
        assert training.weight() == pytest.approx(method.weight(step))


def test_the_script_runs_by_itself(monkeypatch, capsys, tmp_path):
    folder = deepglobe_folder(256)
    out = tmp_path / "weights.pt"
    options = f"--data {folder} --labeled 8 --steps 2 --crop 64 --batch 2 --batch-unlabeled 1 --encoder resnet18"
    monkeypatch.setattr(
        "sys.argv", ["plain_script.py", *options.split(), *f"--device cpu --workers 0 --out {out}".split()]
    )
    plain_script.main()
    assert "step 2  loss" in capsys.readouterr().out
    assert out.exists()
    with pytest.raises(SystemExit, match="more than --labeled 16"):
        plain_script.find_files(folder, 16, 0)
