"""Split manifests, and the files of a run folder that later commands read."""

import json
import shutil

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from s4aug_train.config import Config
from s4aug_train.data.split import Split
from s4aug_train.records import MetricsFile
from s4aug_train.reproduce.folder import GridFolder
from s4aug_train.reproduce.grid import Grid
from s4aug_train.reproduce.plan import Plan
from tests.fuzz.conftest import DATA, SMALL
from tests.fuzz.network import NAME
from tests.fuzz.promise import fuzzed, told
from tests.fuzz.strategies import VALUES, mutated_bytes, mutated_tree

SPLIT = {"version": 1, "how": "by hand", "labeled": ["0", "1", "2"], "unlabeled": ["3"], "val": ["4", "5"]}
STEP = {"step": 1, "loss": 0.7, "loss_supervised": 0.7, "loss_consistency": 0.1, "lambda": 0.1, "valid_fraction": 0.5}
STEP |= {"lr": 0.01, "images_per_s": 1.0, "data_wait": 0.1, "memory_mib": 1.0, "skipped": 0}
LINES = [STEP, {"step": 1, "miou": 0.5, "iou": {"red": 0.5, "white": None}}]
GRID = {"settings": {"train.lr": 0.01}, "data": "abc"}


def dumped(value):
    """As JSON."""
    return json.dumps(value).encode()


def files(value):
    """What a file of JSON may be instead."""
    mutated = mutated_tree(value).map(dumped) | mutated_bytes(dumped(value))
    return mutated | VALUES.map(dumped) | st.binary(max_size=60)


DEEP = b'{"labeled": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@fuzzed(50)
@given(content=files(SPLIT))
@example(content=DEEP)
@example(content=dumped({**SPLIT, "val": ["\ud800", "\0", "\x1b[31m", "x" * 10_000]}))
@example(content=dumped({**SPLIT, "hash": float("nan")}))
@example(content=b'{"labeled": ' + b"9" * 5000 + b"}")
@example(content=json.dumps(SPLIT).encode("utf-16"))
def test_any_split_is_taken_or_told_of_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "split.json").write_bytes(content)
        split = told(lambda: Split.read(folder / "split.json"))
        if split is not None:
            split.write(folder / "again.json")
            assert Split.read(folder / "again.json") == split


@fuzzed(5)
@given(content=files(SPLIT))
@example(content=dumped(SPLIT))
@example(content=dumped({**SPLIT, "val": ["\x1b[31m"]}))
@example(content=dumped({**SPLIT, "val": ["\ud800"]}))
@example(content=dumped({**SPLIT, "val": []}))
@example(content=dumped({**SPLIT, "labeled": ["../data/images/0"]}))
def test_a_run_and_an_evaluation_by_any_split_work_or_end_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "split.json").write_bytes(content)
        world.call("fit", *DATA, "--split", "split.json", "--out", "run", *SMALL)
        world.call("evaluate", "../run", "--split", "split.json", "--model", NAME)


METRICS = (
    st.lists(mutated_tree(LINES[0]) | mutated_tree(LINES[1]) | st.sampled_from(LINES), max_size=4).map(
        lambda lines: b"\n".join(map(dumped, lines))
    )
    | mutated_bytes(b"\n".join(map(dumped, LINES)))
    | st.binary(max_size=60)
)
FILES = st.one_of(
    st.tuples(st.just("metrics.jsonl"), METRICS),
    st.tuples(st.just("splits.json"), files(SPLIT)),
    st.tuples(st.just("env.json"), files({"torch": "2.14", "processes": 1, "launches": []})),
    st.tuples(st.just("config.yaml"), mutated_tree(Config().to_dict()).map(yaml.safe_dump).map(str.encode)),
    st.tuples(st.just("config.yaml"), mutated_bytes(Config().to_yaml().encode())),
    st.tuples(st.just("log.txt"), st.binary(max_size=60)),
)


@fuzzed(5)
@given(damaged=FILES)
@example(damaged=("metrics.jsonl", dumped({**STEP, "loss": "x", "lr": [], "lambda": None})))
@example(damaged=("metrics.jsonl", dumped({**STEP, "loss": 1e308, "lr": float("inf")})))
@example(damaged=("env.json", b"[" * 100_000))
@example(damaged=("env.json", dumped({"torch": {"a": ["<script>"]}})))
def test_a_run_with_any_file_in_its_folder_is_reported_and_gone_on_with_or_told_of(world, damaged):
    name, content = damaged
    with world.fresh() as folder:
        run = shutil.copytree(world.root / "run", folder / "run")
        (run / name).write_bytes(content)
        world.call("report", "run", "--out", "report.html", "--unlabeled-tiles", "1", "--model", NAME)
        world.call("fit", "--out", "run", "--resume", "--model", NAME)


@fuzzed(50)
@given(content=METRICS)
def test_a_run_goes_on_with_any_metrics_or_tells_of_them_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "metrics.jsonl").write_bytes(content)
        told(lambda: MetricsFile(folder / "metrics.jsonl", 1, 1))


@fuzzed(50)
@given(content=files(GRID))
@example(content=b"[" * 100_000)
@example(content=dumped({"settings": {"train.lr": "\x1b[31m" * 1000}, "data": ""}))
def test_any_file_of_a_grid_is_taken_or_told_of_in_one_line(world, content):
    plan = Plan(Grid("table4", (2,), (0,)), {"data.path": "x"})
    with world.fresh() as folder:
        (folder / "grid.json").write_bytes(content)
        told(lambda: GridFolder(folder).check_common(plan))
