"""Settings are checked where they enter: names, types and ranges, from Python, text and YAML alike."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s4aug_train.config import (
    Config,
    known_keys,
    parse_assignment,
    read_settings,
)
from s4aug_train.errors import ConfigError
from s4aug_train.limits import AT_LEAST, CHOICES, SHARES
from s4aug_train.presets import METHODS, PRESETS, configured, preset


def value(config: Config, key: str) -> object:
    group, name = key.split(".")
    return config.to_dict()[group][name]


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.step", "train.steps"),
        ("model.encodr", "model.encoder"),
        ("data.labelled", "data.labeled"),
        ("steps", "train.steps"),
        ("trian.lr", "train.lr"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, nearest):
    with pytest.raises(ConfigError) as caught:
        Config().updated({key: "1"})
    assert one_line(caught.value) == f"no setting {key!r}; did you mean {nearest}?"


def test_a_key_like_no_other_is_refused_with_the_groups():
    with pytest.raises(ConfigError, match="no setting 'zzz'; groups are data, model, method, train"):
        Config().updated({"zzz": "1"})


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("train.steps", "many"),
        ("train.steps", 1.5),
        ("train.steps", "1.5"),
        ("train.steps", True),
        ("train.steps", None),
        ("train.lr", "fast"),
        ("train.lr", [0.1]),
        ("train.lr", True),
        ("train.lr", None),
        ("method.mask", "maybe"),
        ("method.mask", 1),
        ("model.encoder", 18),
        ("data.path", None),
        ("data.classes", 3),
        ("data.split", "a\0b"),
        ("train.seed", 2**63),
        ("train.seed", "9" * 20),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_the_right_one(key, wrong):
    with pytest.raises(ConfigError, match=rf"{key} must be (int|float|bool|str), got ") as caught:
        Config().updated({key: wrong})
    assert repr(wrong) in one_line(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.steps=1_500", 1500),
        ("train.lr=1e-3", 0.001),
        ("train.lr=2", 2.0),
        ("method.mask=False", False),
        ("method.mask=yes", True),
        ("data.classes=none", None),
        ("data.classes= a b.csv ", "a b.csv"),
        ("data.image_pattern=x={id}.tif", "x={id}.tif"),
        ("model.weights=none", "none"),
        ("data.path=", ""),
    ],
)
def test_an_assignment_becomes_a_typed_value(text, expected):
    key, raw = parse_assignment(text)
    found = value(Config().updated({key: raw}), key)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("text", ["train.lr", "lr=0.1", "", "=", "train.lr:0.1"])
def test_what_is_no_assignment_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"--set takes group\.key=value, for example train\.lr=0\.02"):
        parse_assignment(text)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_resolve_and_survive_yaml(name, tmp_path):
    config = preset(name)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    written = read_settings(tmp_path / "config.yaml")
    assert set(written) == set(known_keys())
    assert Config().updated(written) == config
    assert all(value(config, key) == wanted for key, wanted in PRESETS[name].items())


@given(
    lr=st.floats(0, 1e300, allow_nan=False),
    steps=st.integers(1, 10**12),
    path=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")),
    mask=st.booleans(),
)
def test_any_settings_survive_yaml(lr, steps, path, mask, tmp_path_factory):
    wanted = {"train.lr": lr, "train.steps": steps, "data.path": path, "method.mask": mask, "data.split": "no"}
    config = Config().updated(wanted)
    file = tmp_path_factory.getbasetemp() / "config.yaml"
    file.write_text(config.to_yaml(), newline="")
    assert Config().updated(read_settings(file)) == config


def test_the_defaults_are_those_of_the_paper():
    paper = preset("paper")
    train, method = paper.train, paper.method
    assert (train.steps, train.batch_labeled, train.batch_unlabeled, train.crop) == (100_000, 4, 2, 512)
    assert (train.lr, train.momentum, train.weight_decay) == (0.01, 0.9, 1e-4)
    assert (method.weight, method.ramp * train.steps) == (2.0, 80_000)
    assert (method.degrees, method.translate, method.scale_min, method.scale_max) == (15, 0.2, 0.75, 1.25)
    assert (train.window, train.stride, paper.model.encoder) == (512, 341, "resnet50")


def test_every_rule_is_about_a_setting_and_the_defaults_keep_it():
    keys = known_keys()
    assert set(CHOICES) <= set(keys)
    assert set(AT_LEAST) <= set(keys)
    assert set(SHARES) <= set(keys)
    assert all(set(each) <= set(keys) for each in [*PRESETS.values(), *METHODS.values()])
    for key, choices in CHOICES.items():
        assert value(Config(), key) in choices
    for key, least in AT_LEAST.items():
        assert value(Config(), key) >= least


@pytest.mark.parametrize("key", CHOICES)
def test_a_value_outside_its_choices_is_refused_with_them(key):
    for choice in CHOICES[key]:
        others = {"method.ema": 0.9} if choice in ("teacher", "mean-teacher") else {}
        assert value(Config().updated({**others, key: choice}), key) == choice
    with pytest.raises(ConfigError, match=f"{key} must be one of {CHOICES[key][0].replace('+', '.')}, .*got 'other'"):
        Config().updated({key: "other"})


@pytest.mark.parametrize("key", AT_LEAST)
def test_a_value_below_its_least_is_refused(key):
    with pytest.raises(ConfigError, match=f"{key} must be at least {AT_LEAST[key]}, got -1"):
        Config().updated({key: "-1"})


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"method.ramp": 1.01}, "method.ramp must be between 0 and 1"),
        ({"method.translate": -0.1}, "method.translate must be between 0 and 1"),
        ({"train.momentum": "nan"}, "train.momentum must be between 0 and 1"),
        ({"train.lr": "nan"}, "train.lr must be at least 0"),
        ({"method.detach": 3}, "method.detach must be 0, 1 or 2"),
        ({"method.scale_min": 1.3}, "scale_max must not be below"),
        ({"method.scale_max": "nan"}, "scale_max must not be below"),
        ({"train.stride": 600}, "stride must not exceed train.window"),
        ({"method.ema": 1.0}, "method.ema must be below 1"),
        ({"method.evaluate": "teacher"}, "needs a teacher: set method.ema"),
        ({"train.graph": True, "train.precision": "fp16"}, "graph does not go with fp16"),
        ({"train.nesterov": True, "train.momentum": 0.0}, "nesterov needs train.momentum"),
        ({"train.class_weights": "1,x"}, "class_weights must be none, balanced or numbers"),
        ({"train.class_weights": "0,0"}, "class_weights must be none, balanced or numbers"),
        ({"train.class_weights": "1,-1"}, "class_weights must be none, balanced or numbers"),
        ({"model.factory": "a:b", "model.weights": "r.pth"}, "model.weights is for the encoder of Table 1"),
        ({"method.name": "mean-teacher"}, "mean-teacher needs method.ema above 0"),
        ({"method.vat_probe": 0.0}, "vat_probe must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(chosen, message):
    with pytest.raises(ConfigError, match=message):
        Config().updated(chosen)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: [1", "cannot read the settings in .*config.yaml"),
        (b"\xff\xfe\x00", "cannot read the settings"),
        (b"[1, 2]", "must hold groups"),
        (b"train: 3", "must hold groups"),
        (b"text", "must hold groups"),
    ],
)
def test_a_damaged_file_of_settings_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_settings(tmp_path / "config.yaml")
    assert str(tmp_path / "config.yaml") in one_line(caught.value)


def test_a_missing_file_is_refused_and_an_empty_one_sets_nothing(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_settings(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_settings(tmp_path / "empty.yaml") == {}


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="no preset 'fast'; there are paper, paper-literal, recommended, quick"):
        preset("fast")


def test_a_config_is_never_changed_in_place():
    config = Config()
    config.updated({"train.steps": 5, "train.crop": 64})
    assert config == Config()
    with pytest.raises(FrozenInstanceError):
        config.train.steps = 3


def test_settings_are_put_together_from_preset_method_demo_and_what_is_asked_for():
    config = configured({"data.path": "demo", "method.name": "fixmatch", "method.ramp": 0.3})
    assert config.model.encoder == "resnet18"  # of the preset quick, which the demo means
    assert (config.data.labeled, config.model.weights) == (20, "none")  # of the demo
    assert (config.method.weight, config.method.ramp) == (1.0, 0.3)  # of the method; asked for
    assert configured({"data.path": "demo"}, "paper").model.encoder == "resnet50"
    assert configured({}) == Config()


@pytest.mark.parametrize("key", ["train.seed", "train.lr", "data.split", "method.mask"])
def test_a_number_that_python_does_not_write_out_is_refused_in_a_short_line(key):
    with pytest.raises(ConfigError, match=f"{key} must be .*, got a int of thousands of digits"):
        Config().updated({key: 1 << 100_000})


def test_names_of_groups_and_settings_are_text(tmp_path):
    for content in ("1: {}", "train: {1: 2}", "train: {on: 1}"):
        (tmp_path / "a.yaml").write_text(content)
        with pytest.raises(ConfigError, match="must hold groups"):
            read_settings(tmp_path / "a.yaml")
