import hashlib
import pickle
from dataclasses import replace

import pytest
import torch

from s4aug_train.config import Config
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.data.split import Split
from s4aug_train.engine import Checkpoint, TrainingState
from s4aug_train.errors import CheckpointError, S4AugTrainError
from s4aug_train.methods import Setup, make_method
from s4aug_train.model import UNet


def new_state(network, config):
    setup = Setup(config, Normalization((1.0,) * 3, (1.0,) * 3, "measured"), 6)
    return TrainingState(network, make_method(setup), config.train, torch.device("cpu"))


@pytest.fixture(scope="module")
def checkpoint():
    config = Config().updated({"model.encoder": "resnet18", "data.labeled": 3})
    network = UNet(6, encoder="resnet18")
    state = new_state(network, config)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    state.optimizer.step()
    return Checkpoint(
        step=5,
        config=config,
        classes=DEEPGLOBE,
        bands=3,
        dtype="uint8",
        normalization=Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "measured"),
        split=Split(("a",), ("b",), ("c",), "by hand"),
        best=0.25,
        network=network.state_dict(),
        training=state.state_dict(),
    )


@pytest.fixture
def written(checkpoint, tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.write(path)
    return path


def test_what_is_written_is_read_back(checkpoint, written):
    read = Checkpoint.read(written)
    for name in ("step", "config", "classes", "bands", "dtype", "normalization", "split", "best"):
        assert getattr(read, name) == getattr(checkpoint, name), name
    for name, value in checkpoint.network.items():
        assert torch.equal(read.network[name], value)
    momentum = read.training["optimizer"]["state"][0]["momentum_buffer"]
    assert torch.equal(momentum, checkpoint.training["optimizer"]["state"][0]["momentum_buffer"])
    assert torch.equal(read.build_network().classifier.weight, checkpoint.network["classifier.weight"])


def test_a_checkpoint_needs_no_code_to_load(written):
    assert torch.load(written, weights_only=True)["step"] == 5


@pytest.mark.parametrize("keep", [0, 1, 1000, -1])
def test_a_truncated_checkpoint_is_told_in_one_line(written, keep):
    written.write_bytes(written.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"last\.pt") as error:
        Checkpoint.read(written)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{"step": 1}, [1, 2], {"version": 99, "step": 1}, torch.zeros(3)])
def test_a_foreign_file_is_told_in_one_line(tmp_path, content):
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError) as error:
        Checkpoint.read(tmp_path / "foreign.pt")
    assert "\n" not in str(error.value)


def test_a_pickle_is_never_run(tmp_path):
    import os

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        Checkpoint.read(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_failed_write_leaves_the_old_checkpoint_and_no_remains(checkpoint, written, monkeypatch):
    before = written.read_bytes()

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(S4AugTrainError, match="No space left on device.*free some space"):
        checkpoint.write(written)
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == ["last.pt"]


def test_a_flipped_bit_is_noticed(written):
    content = bytearray(written.read_bytes())
    content[len(content) // 2] ^= 1
    written.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.read(written)


def test_weights_that_are_not_finite_are_refused(checkpoint):
    spoiled = {**checkpoint.network, "classifier.bias": torch.full((6,), torch.nan)}
    with pytest.raises(CheckpointError, match="not finite"):
        replace(checkpoint, network=spoiled).build_network()


@pytest.mark.parametrize("change", [{"network": None}, {"network": {}}, {"training": None}, {"training": {}}])
def test_parts_of_the_wrong_kind_are_one_line(checkpoint, change):
    state = new_state(UNet(6, encoder="resnet18"), checkpoint.config)
    parts = {"network": checkpoint.network, "training": checkpoint.training, **change}
    with pytest.raises(CheckpointError) as error:
        state.load(checkpoint.step, checkpoint.best, parts["network"], parts["training"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "x"},
        {"step": -1},
        {"step": True},
        {"bands": 0},
        {"dtype": "complex64"},
        {"best": "x"},
        {"network": None},
        {"network": {5: torch.zeros(1)}},
        {"network": {"x": 1}},
        {"training": None},
    ],
)
def test_a_part_that_cannot_be_is_refused_by_name(checkpoint, change):
    with pytest.raises(CheckpointError, match=f"{next(iter(change))}.* cannot be"):
        replace(checkpoint, **change)


@pytest.mark.parametrize("part", ["config", "split", "normalization"])
def test_a_tensor_in_place_of_a_dictionary_is_told_in_one_line(written, part):
    content = torch.load(written, weights_only=True)
    torch.save({**content, part: torch.zeros(3)}, written)
    with pytest.raises(CheckpointError, match=f"{part} is no dictionary"):
        Checkpoint.read(written)


def test_moments_that_a_kernel_would_read_beyond_are_refused(checkpoint):
    state = new_state(UNet(6, encoder="resnet18"), checkpoint.config)
    optimizer = {**checkpoint.training["optimizer"], "state": {0: {"momentum_buffer": torch.zeros(1)}}}
    with pytest.raises(CheckpointError, match="momentum_buffer of an optimizer is not of the shape"):
        state.load(5, 0.25, checkpoint.network, {**checkpoint.training, "optimizer": optimizer})


def test_a_run_does_not_go_on_with_weights_that_are_not_finite(checkpoint):
    state = new_state(UNet(6, encoder="resnet18"), checkpoint.config)
    spoiled = {**checkpoint.network, "classifier.bias": torch.full((6,), torch.nan)}
    with pytest.raises(CheckpointError, match="not finite"):
        state.load(5, 0.25, spoiled, checkpoint.training)


def test_missing_is_told_with_what_to_give(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        Checkpoint.read(tmp_path / "none.pt")


def test_a_full_disk_as_torch_reports_it_is_one_line(checkpoint, written, monkeypatch):
    before = written.read_bytes()

    def full(content, file):
        file.write(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nframe #0: ...")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(S4AugTrainError, match="cannot write") as error:
        checkpoint.write(written)
    assert "\n" not in str(error.value)
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == ["last.pt"]


def contents(folder):
    """By hash: to show how such files differ would take minutes."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_checkpoint_before_the_newest_is_kept(checkpoint, written):
    previous = written.with_name("previous.pt")
    for step in (6, 7):
        replace(checkpoint, step=step).write(written, previous)
    assert [Checkpoint.read(path).step for path in (previous, written)] == [6, 7]
    assert sorted(contents(written.parent)) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("size", [0, 100, 1_000_000, 30_000_000])
def test_a_full_disk_leaves_the_older_checkpoints_and_no_remains(checkpoint, written, file_limit, size):
    previous = written.with_name("previous.pt")
    checkpoint.write(written, previous)
    before = contents(written.parent)
    with file_limit(size), pytest.raises(S4AugTrainError, match=r"last\.pt: File too large; free some space") as error:
        checkpoint.write(written, previous)
    assert "\n" not in str(error.value)
    assert contents(written.parent) == before


def test_what_cannot_be_read_back_takes_no_ones_place(checkpoint, written, monkeypatch):
    previous = written.with_name("previous.pt")
    checkpoint.write(written, previous)
    before, save = contents(written.parent), torch.save

    def flipped(content, file):
        save(content, file)
        file.seek(-file.tell() // 2, 2)
        file.write(b"\x00\xff")

    monkeypatch.setattr(torch, "save", flipped)
    with pytest.raises(S4AugTrainError, match="cannot be read back"):
        checkpoint.write(written, previous)
    assert contents(written.parent) == before
