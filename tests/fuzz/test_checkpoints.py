"""Checkpoints, exported networks and files of weights: mutated bytes, and whole files of other content."""

import io
import itertools
import json
import zipfile

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from s4aug_train.errors import S4AugTrainError
from s4aug_train.model import UNet, load_encoder_weights, read_encoder_weights
from tests.fuzz.network import NAME
from tests.fuzz.promise import fuzzed, told
from tests.fuzz.strategies import SCALARS, VALUES, mutated_bytes, mutated_tree

TENSORS = st.sampled_from(
    [
        torch.zeros(0),
        torch.tensor(1.0),
        torch.full((4, 3, 3, 3), float("nan")),
        torch.zeros(4, 3, 3, 3, dtype=torch.int8),
        torch.zeros(4, 3, 3, 3, dtype=torch.complex64),
        torch.zeros(4, 3, 3, 3, dtype=torch.float64),
        torch.zeros(4, 3, 3, 3, dtype=torch.float8_e5m2),
        torch.zeros(1).expand(1 << 40),
        torch.zeros(1).expand(1 << 20, 1 << 20),
        torch.zeros(3, 3).to_sparse(),
        torch.zeros(4, 3, 3, 3, device="meta"),
        torch.zeros(4, requires_grad=True),
    ]
)
# Nothing recursive: Hypothesis takes many short draws of that for inconsistent ones.
WEIGHTS = SCALARS | TENSORS | st.lists(TENSORS, max_size=2)
PARTS = VALUES | TENSORS | st.dictionaries(st.text(max_size=5), TENSORS, max_size=2)
COMMANDS = {
    "evaluate": ["evaluate", "c.pt", "--model", NAME],
    "predict": ["predict", "c.pt", "../data/images/0.png", "--out", "maps", "--model", NAME],
    "export": ["export", "c.pt", "--format", "safetensors", "--out", "n.safetensors", "--model", NAME],
    "fit": ["fit", "--resume", "c.pt", "--out", "run", "--model", NAME],
    "report": ["report", "c.pt", "--out", "report.html", "--model", NAME, "--unlabeled-tiles", "1"],
    "against": ["evaluate", "../run", "--against", "c.pt", "--model", NAME],
}
CALLS = st.sampled_from(list(COMMANDS))


def saved(content):
    """As torch writes it."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="session")
def content(world):
    """Of the run's checkpoint, as if a step were left."""
    found = torch.load(world.root / "run" / "checkpoints" / "last.pt", weights_only=True)
    found["config"]["train"]["steps"] = 2
    return found


@pytest.fixture(scope="session", params=[pytest.param("onnx", marks=pytest.mark.slow), "safetensors"])
def exported(world, request):
    """The name of a format that predict reads, and the run's network in it."""
    with world.fresh() as folder:
        out = folder / f"network.{request.param}"
        world.prepare("export", "../run", "--format", request.param, "--out", out, "--model", NAME)
        return request.param, out.read_bytes()


@fuzzed(10)
@given(data=st.data(), name=CALLS)
def test_a_checkpoint_of_any_bytes_works_or_is_told_of_in_one_line(world, content, data, name):
    with world.fresh() as folder:
        (folder / "c.pt").write_bytes(data.draw(mutated_bytes(saved(content)) | st.binary(max_size=60)))
        world.call(*COMMANDS[name])


@fuzzed(10)
@given(data=st.data(), name=CALLS)
def test_a_checkpoint_of_any_content_works_or_is_told_of_in_one_line(world, content, data, name):
    with world.fresh() as folder:
        (folder / "c.pt").write_bytes(saved(data.draw(mutated_tree(content, PARTS))))
        world.call(*COMMANDS[name])


def changed(content, path, value):
    """A content with another value at a path of keys."""
    *parents, last = path
    whole = torch.load(io.BytesIO(saved(content)), weights_only=True)
    part = whole
    for key in parents:
        part = part[key]
    part[last] = value
    return whole


WRONG = [
    (["bands"], 10**6),
    (["bands"], "3"),
    (["bands"], True),
    (["bands"], 0),
    (["dtype"], "complex64"),
    (["step"], "x"),
    (["step"], -1),
    (["step"], None),
    (["best"], "x"),
    (["normalization", "mean"], [1.0]),
    (["normalization", "mean"], "abc"),
    (["normalization", "std"], [0.0, 0.0, 0.0]),
    (["normalization", "std"], [float("nan")] * 3),
    (["normalization", "source"], None),
    (["split", "val"], [1, 2]),
    (["split", "val"], "abc"),
    (["split", "val"], ["\x1b[31m"]),
    (["classes", 0, 0], "\x1b[31mred"),
    (["classes", 0, 0], 5),
    (["classes", 0, 1], ["a", "b", "c"]),
    (["classes", 0, 1], [0, 0]),
    (["classes", 0, 3], None),
    (["classes"], [[f"{n}", None, n, False] for n in range(255)]),
    (["network"], {}),
    (["network"], None),
    (["network"], 5),
    (["network"], {5: torch.zeros(1)}),
    (["network", "network.0.weight"], torch.full((4, 3, 3, 3), float("nan"))),
    (["network", "network.0.weight"], torch.zeros(1).expand(1 << 40)),
    (["network", "network.0.weight"], torch.zeros(4, 3, 3, 3, dtype=torch.complex64)),
    (["network", "network.0.weight"], torch.zeros(4, 3, 3, 3, device="meta")),
    (["network", "network.0.weight"], torch.zeros(4, 27).to_sparse()),
    (["network", "network.0.weight"], "x"),
    (["training"], None),
    (["training"], {}),
    (["training", "optimizer"], {"state": {}, "param_groups": []}),
    (["training", "optimizer", "state", 0, "momentum_buffer"], torch.zeros(5)),
    (["training", "optimizer", "param_groups", 0, "lr"], "x"),
    (["training", "parts"], 7),
    (["training", "evaluated"], "x"),
    (["config", "train", "window"], 16384),
    (["config", "train", "window"], 10**9),
    (["config", "method", "evaluate"], "teacher"),
    (["config", "method", "name"], "os:getcwd"),
    (["config", "data", "path"], "/dev/null"),
    (["config", "data", "path"], 5),
]


def wrong_in_one_place(world, content, cases):
    """What breaks the promise of some (place, value, command)."""
    for path, value, name in cases:
        with world.fresh() as folder:
            (folder / "c.pt").write_bytes(saved(changed(content, path, value)))
            yield from (f"{name}, {path} = {value}: {fault}" for fault in world.ending(*COMMANDS[name]).faults())


def test_a_checkpoint_that_is_wrong_in_one_place_works_or_is_told_of_in_one_line(world, content):
    names = itertools.cycle(COMMANDS)
    assert not list(wrong_in_one_place(world, content, ((*each, next(names)) for each in WRONG)))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_of_a_checkpoint_that_is_wrong_in_one_place(world, content, name):
    assert not list(wrong_in_one_place(world, content, ((*each, name) for each in WRONG)))


def archive(*members, compression=zipfile.ZIP_STORED):
    """A zip file of (name, content)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, inside in members:
            made.writestr(name, inside)
    return file.getvalue()


@pytest.mark.parametrize(
    "made",
    [
        archive(),
        archive(("../../escaped", b"x"), ("/escaped", b"x")),
        archive(("archive/data.pkl", b"")),
        archive(("archive/data.pkl", b"\x80\x02}q\x00."), ("archive/version", b"3\n")),
        archive(("archive/data.pkl", b"\x80\x02}q\x00."), ("archive/code/x.py", b"open('exploded', 'w')")),
        archive(("archive/constants.pkl", b"\x80\x02}q\x00."), ("archive/data.pkl", b"\x80\x02}q\x00.")),
        b"",
        b"PK\x05\x06" + bytes(18),
        torch.zeros(3).numpy().tobytes(),
        saved(torch.zeros(1).expand(1 << 40)),
        saved({"version": 1}),
        saved(list(range(1000))),
    ],
    ids=range(12),
)
def test_an_archive_of_anything_else_is_told_of_in_one_line(world, made):
    with world.fresh() as folder:
        (folder / "c.pt").write_bytes(made)
        assert all(world.call(*command).code == 1 for command in COMMANDS.values())


PREDICT = ["../data/images/0.png", "--out", "maps", "--model", NAME]


@fuzzed(10)
@given(data=st.data())
def test_an_exported_network_of_any_bytes_works_or_is_told_of_in_one_line(world, exported, data):
    name, content = exported
    with world.fresh() as folder:
        (folder / f"n.{name}").write_bytes(data.draw(mutated_bytes(content) | st.binary(max_size=60)))
        world.call("predict", f"n.{name}", *PREDICT)


@fuzzed(10)
@given(data=st.data())
def test_an_exported_network_that_tells_anything_of_itself_works_or_is_told_of_in_one_line(world, exported, data):
    name, content = exported
    with world.fresh() as folder:
        (folder / f"n.{name}").write_bytes(told_otherwise(content, name, data.draw))
        world.call("predict", f"n.{name}", *PREDICT)


def told_otherwise(content, name, draw):
    """An exported file with other metadata."""
    if name == "onnx":
        import onnx

        model = onnx.load_from_string(content)
        metadata = {prop.key: prop.value for prop in model.metadata_props}
        onnx.helper.set_model_props(model, mutated_metadata(metadata, draw))
        return model.SerializeToString()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = mutated_metadata(header["__metadata__"], draw)
    if draw(st.booleans()):
        header = draw(mutated_tree(header))
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def mutated_metadata(metadata, draw):
    """Texts, one of which is another, of JSON or of none."""
    key = draw(st.sampled_from(sorted(metadata)))
    try:
        value = json.loads(metadata[key])
    except ValueError:
        value = metadata[key]
    other = draw(mutated_tree(value).map(json.dumps) | st.text(max_size=10))
    return {**metadata, key: other.encode(errors="replace").decode()}


@fuzzed(10)
@given(data=st.data())
@example(data=None)
def test_weights_of_any_content_are_loaded_or_told_of_in_one_line(world, encoder, data):
    network, state = encoder
    with world.fresh() as folder:
        chosen = PARTS if data is None else data.draw(mutated_tree(state, WEIGHTS))
        (folder / "w.pt").write_bytes(b"" if data is None else saved(chosen))
        weights = told(lambda: read_encoder_weights("resnet18", str(folder / "w.pt")))
        if weights is not None:
            told(lambda: load_encoder_weights(network.encoder, weights))


@pytest.fixture(scope="session")
def encoder():
    """The smallest network of Table 1, and the state of an encoder without most of its layers."""
    network = UNet(2, encoder="resnet18")
    # Of its own: what is loaded into the network must not change what is drawn next.
    state = {name: value.clone() for name, value in network.encoder.state_dict().items() if value.numel() < 10_000}
    return network, state


def test_weights_are_refused_that_are_none(tmp_path):
    (tmp_path / "w.pt").write_bytes(saved({"x": 1}))
    with pytest.raises(S4AugTrainError):
        read_encoder_weights("resnet18", str(tmp_path / "w.pt"))
