"""Files of settings and --set: any text, mutated settings, and what YAML can do besides."""

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from s4aug_train.config import Config, known_keys, parse_assignment, read_settings
from s4aug_train.presets import configured
from tests.fuzz.conftest import DATA, SMALL
from tests.fuzz.promise import fuzzed, told
from tests.fuzz.strategies import SCALARS, TEXTS, VALUES, mutated_bytes, mutated_tree

GOOD = {**Config().to_dict(), "data": {"labeled": 3, "val": 2}}
KEYS = st.sampled_from(sorted(known_keys()))


def dumped(value):
    """As YAML, which need not be what is read back."""
    return yaml.safe_dump(value, allow_unicode=True).encode(errors="surrogatepass")


FILES = (
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass"))
    | VALUES.map(dumped)
    | st.dictionaries(st.sampled_from(list(GOOD)) | TEXTS, VALUES, max_size=3).map(dumped)
    | mutated_tree(GOOD).map(dumped)
    | mutated_bytes(yaml.safe_dump(GOOD).encode())
)
ASSIGNED = st.lists(st.tuples(KEYS | TEXTS, SCALARS.map(str) | TEXTS).map("=".join) | TEXTS, min_size=1, max_size=4)


def bomb(depth, width=10):
    """Lists of lists of ..., small as long as nobody looks at all of them."""
    lists = [f"  b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(["data:", "  b0: &b0 [x]", *lists, f"train: {{lr: *b{depth - 1}}}", ""]).encode()


NASTY = [
    bomb(12),
    bomb(12).replace(b"data:", b"train:").replace(b"\ntrain: {", b"\n  ").replace(b"}\n", b"\n"),
    b"train: {lr: " + b"[" * 500 + b"]" * 500 + b"}",
    b"train: {seed: 0x" + b"f" * 100_000 + b"}",
    b"train: {crop: 0x" + b"f" * 100_000 + b"}",
    b"method: {weight: 0x" + b"f" * 100_000 + b"}",
    b"0x" + b"f" * 100_000 + b": {}",
    b"train: {0x" + b"f" * 100_000 + b": 1}",
    b"train: {lr: 1, lr: 2}",
    b"? [a, b]\n: 1\n",
    b"train: {? {a: 1} : 2}",
    b"{" + b", ".join(b"k%d: {}" % n for n in range(3000)) + b"}",
    b"a: &a\n  b: *a\n",
    b"train: &t\n  lr: *t\n",
    b"&t train: {<<: *t}",
    b"train: {lr: .nan}",
    b"method: {weight: -.inf}",
    b"train: {lr: !!python/object/apply:os.mkdir [exploded]}",
    b"train: {lr: !!python/name:os.system }",
    b'data: {split: "a\\0b", unlabeled: "a\\0b"}',
    b'data: {unlabeled: "\\uD800"}',
    b'data: {split: "\\uD800"}',
    b"data: {split: 2001-99-01}",
    b"data: {split: 2001-01-01}",
    b"train: {lr: !!binary eA==}",
    b"train: {on: 1}",
    b"method: {name: []}",
    b"\xff\xfed\x00a\x00t\x00a\x00",
]


@fuzzed(50)
@given(content=FILES)
def test_any_file_of_settings_is_taken_or_told_of_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "settings.yaml").write_bytes(content)
        config = told(lambda: configured(read_settings(folder / "settings.yaml")))
        if config is not None:
            (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
            assert Config().updated(read_settings(folder / "config.yaml")) == config


@pytest.mark.parametrize("content", NASTY, ids=lambda content: content[:20].decode(errors="replace"))
def test_what_yaml_can_do_besides_is_told_of_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "settings.yaml").write_bytes(content)
        assert world.call("fit", *DATA, "--config", "settings.yaml", "--out", "run", *SMALL).code == 1


@fuzzed(50)
@given(given=ASSIGNED)
@example(given=["train.lr=" + "9" * 5000])
@example(given=["train.seed=" + "9" * 5000])
@example(given=["train.seed=" + "9" * 30])
@example(given=["model.encoder=x\ny"])
def test_any_assignment_is_taken_or_told_of_in_one_line(given):
    told(lambda: configured(dict(parse_assignment(text) for text in given)))


@fuzzed(5)
@given(content=FILES)
def test_a_run_of_any_file_of_settings_works_or_ends_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "settings.yaml").write_bytes(content)
        world.call("fit", *DATA, "--config", "settings.yaml", "--out", "run", *SMALL)


@fuzzed(5)
@given(given=ASSIGNED)
@example(given=["train.lr=1e308"])
@example(given=["train.warmup=" + "9" * 18])
@example(given=["method.degrees=1e308"])
@example(given=["method.scale_max=1e308"])
@example(given=["method.shear=1e308"])
@example(given=["method.name=os:getcwd"])
@example(given=["data.image_pattern={a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}", "data.mask_pattern={a}"])
def test_a_run_of_any_assignment_works_or_ends_in_one_line(world, given):
    options = [f"--set={text}" for text in given if "\0" not in text]
    with world.fresh():
        world.call("fit", *DATA, "--labeled", "3", "--val", "2", "--out", "run", *options, *SMALL)
