"""No file that is handed over runs code: neither by the way it is read, nor by what it holds."""

import ast
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fuzz.conftest import DATA, SMALL
from tests.fuzz.network import NAME

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for package in ("s4aug", "s4aug_train") for path in sorted((ROOT / package).rglob("*.py"))]
BY_NAME = {"eval", "exec", "compile", "__import__"}
# Modules that run what they read, and what of them is used, to write.
RUNNING = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "runpy", "cloudpickle"}
WRITING = {("s4aug_train/engine/prefetch.py", "pickle.dumps")}
# What reads files and can run what they hold, and how it is safe.
SAFE = {
    "torch.load": lambda call: keyword(call, "weights_only") == "True",
    "torch.export.load": lambda call: False,
    "torch.jit.load": lambda call: False,
    "torch.hub.load": lambda call: False,
    "yaml.load": lambda call: len(call.args) == 2 and ast.unparse(call.args[1]) == "_Loader",
    "yaml.unsafe_load": lambda call: False,
    "yaml.full_load": lambda call: False,
    "np.load": lambda call: keyword(call, "allow_pickle") in (None, "False"),
    "numpy.load": lambda call: keyword(call, "allow_pickle") in (None, "False"),
}
# The file that this process has just written itself, to compare it.
OWN = {("s4aug_train/formats.py", "torch.export.load")}


def keyword(call, name):
    """A keyword of a call, as source."""
    return next((ast.unparse(each.value) for each in call.keywords if each.arg == name), None)


def faults_of(source, name):
    """Where a file could run code that it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in BY_NAME or (called in SAFE and (name, called) not in OWN and not SAFE[called](node)):
                yield f"{name}, line {node.lineno}: {called}"
        elif isinstance(node, ast.ImportFrom) and node.module in RUNNING:
            yield f"{name}, line {node.lineno}: from {node.module}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in RUNNING and not may_write(name, node):
            yield f"{name}, line {node.lineno}: {ast.unparse(node)}"


def may_write(name, node):
    """Whether a file uses what it does to write alone."""
    return (name, ast.unparse(node)) in WRITING


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_read_in_a_way_that_runs_code(path):
    assert not list(faults_of(path.read_text(), path.relative_to(ROOT).as_posix()))


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "torch.export.load(path)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "from pickle import loads",
        "pickle.loads(text)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_a_way_that_runs_code_is_found(source):
    assert list(faults_of(source, "s4aug_train/x.py"))


def test_settings_are_read_by_a_safe_loader():
    import yaml

    from s4aug_train import config

    assert issubclass(config._Loader, yaml.SafeLoader)
    assert set(config._Loader.yaml_constructors) == set(yaml.SafeLoader.yaml_constructors)


class Bomb:
    """What makes a folder when it is unpickled."""

    def __reduce__(self):
        return Path.mkdir, (Path("exploded"),)


def torch_bomb(**options):
    """A file of torch that holds a bomb."""
    file = io.BytesIO()
    torch.save({"version": 1, "network": Bomb()}, file, **options)
    return file.getvalue()


def numpy_bomb():
    """An array of objects, one of which is a bomb."""
    file = io.BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    return file.getvalue()


FIT = ["fit", *DATA, "--labeled", "3", "--val", "2", "--out", "run"]
CHECKPOINTS = [pickle.dumps(Bomb()), torch_bomb(), torch_bomb(_use_new_zipfile_serialization=False)]
READING = {
    "evaluate": ["evaluate", "bomb.pt", "--model", NAME],
    "against": ["evaluate", "../run", "--against", "bomb.pt", "--model", NAME],
    "predict": ["predict", "bomb.pt", "../data/images/0.png", "--out", "maps", "--model", NAME],
    "export": ["export", "bomb.pt", "--format", "safetensors", "--out", "x.safetensors", "--model", NAME],
    "report": ["report", "bomb.pt", "--out", "report.html", "--model", NAME],
    "resume": ["fit", "--resume", "bomb.pt", "--out", "run", "--model", NAME],
    "weights": [*FIT, *SMALL[2:], "--set", "model.encoder=resnet18", "--weights", "bomb.pt"],
    "onnx": ["predict", "bomb.onnx", "../data/images/0.png", "--out", "maps"],
    "safetensors": ["predict", "bomb.safetensors", "../data/images/0.png", "--out", "maps"],
    "settings": [*FIT, "--config", "bomb.yaml", *SMALL],
    "split": ["fit", *DATA, "--out", "run", "--split", "bomb.json", *SMALL],
    "classes": ["doctor", "--data", "../data", "--classes", "bomb.pt"],
}
YAML = "train: {lr: !!python/object/apply:os.mkdir [exploded]}\n"


@pytest.mark.parametrize("name", READING)
def test_a_pickle_is_never_run_whoever_reads_it(world, name):
    for content in CHECKPOINTS:
        with world.fresh() as folder:
            for suffix in ("pt", "onnx", "safetensors", "json"):
                (folder / f"bomb.{suffix}").write_bytes(content)
            (folder / "bomb.yaml").write_text(YAML)
            ending = world.call(*READING[name])
            assert ending.code == 1
            assert not (folder / "exploded").exists()


def test_a_cache_entry_that_holds_a_pickle_is_never_run(world, monkeypatch, tmp_path):
    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path))
    call = ["split", *DATA, "--labeled", "3", "--val", "2", "--out", "split.json"]
    with world.fresh():
        assert world.call(*call).code == 0
    for path in tmp_path.rglob("pixels.npy"):
        path.write_bytes(numpy_bomb())
    with world.fresh() as folder:
        assert "damaged" in world.call(*call).stderr
        assert not (folder / "exploded").exists()


def test_a_name_in_a_file_is_no_code_that_is_run(world):
    """What a file calls a network or a method is run only if it is typed as well."""
    with world.fresh() as folder:
        (folder / "evil.py").write_text("open('exploded', 'w')\n")
        (folder / "c.yaml").write_text(json.dumps({"model": {"factory": "evil:make"}}))
        assert "say so with --model evil:make" in world.call(*FIT, "--config", "c.yaml", "--weights", "none").stderr
        (folder / "c.yaml").write_text(json.dumps({"method": {"name": "evil:make"}}))
        assert "say so with --method evil:make" in world.call(*FIT, "--config", "c.yaml", *SMALL).stderr
        assert not (folder / "exploded").exists()
