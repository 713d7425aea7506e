"""metrics.jsonl holds each step once, also after a kill."""

import json

import pytest

from s4aug_train.errors import DataError, S4AugTrainError
from s4aug_train.records import EvaluationRecord, LeftOut, MetricsFile, Note, StepRecord, read_metrics


def step(number: int) -> StepRecord:
    return StepRecord(number, 1.5, 1.0, 0.25, 2.0, 0.7, 0.01, 12.5, 0.1, 900.0, {"confident": 0.5})


def evaluation(number: int) -> EvaluationRecord:
    return EvaluationRecord(number, 0.5, {"a": 0.5, "b": None}, [[3, 1], [0, 0]], ["a", "b"], 4)


def steps(path) -> list[int]:
    return [line["step"] for line in read_metrics(path)]


def test_lines_have_the_names_of_the_contract(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.append(step(20))
    metrics.append(evaluation(20))
    train, evaluated = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    names = "step loss loss_supervised loss_consistency lambda valid_fraction lr images_per_s data_wait memory_mib"
    assert list(train) == [*names.split(), "skipped", "confident"]
    assert list(train.values()) == [20, 1.5, 1.0, 0.25, 2.0, 0.7, 0.01, 12.5, 0.1, 900.0, 0, 0.5]
    assert evaluated == {"step": 20, "miou": 0.5, "iou": {"a": 0.5, "b": None}}


def test_notes_are_for_people_alone(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.append(Note("tiles in memory"))
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_an_evaluation_prints_what_the_contract_says():
    expected = {"miou": 0.5, "iou": {"a": 0.5, "b": None}, "confusion": [[3, 1], [0, 0]], "classes": ["a", "b"]}
    told = {"tiles": 4, "accuracy": 0.75, "never_predicted": [], "absent": ["b"]}
    assert json.loads(json.dumps(evaluation(3).to_json())) == {**expected, **told}


def test_classes_are_named_that_are_never_predicted_or_absent():
    confusion, classes = [[5, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], list("abcd")
    found = EvaluationRecord(1, None, {}, confusion, classes, 1)
    assert (found.never_predicted, found.absent, found.accuracy) == (["b", "d"], ["c", "d"], 0.5)
    assert EvaluationRecord(1, None, {}, [[0]], ["a"], 1).accuracy is None


def test_lines_beyond_the_step_of_a_resumed_run_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    for number in (20, 40, 60, 80):
        first.append(step(number))
    first.append(evaluation(40))
    resumed = MetricsFile(path, 40, 40)
    assert steps(path) == [20, 40, 40]
    resumed.append(step(60))
    assert steps(path) == [20, 40, 40, 60]
    MetricsFile(path)
    assert steps(path) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_an_evaluation_that_will_be_made_again_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    for record in (step(20), evaluation(20), step(40), evaluation(40)):
        file.append(record)
    MetricsFile(path, 40, 20)
    assert steps(path) == [20, 20, 40]


@pytest.mark.parametrize("tail", ['{"step": 60, "lo', "{", "\x00\x00\x00", "\ufffd", '{"loss": 1}'])
def test_a_last_line_that_a_kill_cut_short_is_left_out_and_not_built_upon(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).append(step(20))
    with path.open("a") as file:
        file.write(tail)
    assert steps(path) == [20]
    MetricsFile(path, 100, 100).append(step(40))
    assert steps(path) == [20, 40]


def test_a_line_for_which_the_disk_was_too_full_is_not_built_upon(tmp_path, file_limit):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.append(step(20))
    with file_limit(path.stat().st_size + 30), pytest.raises(S4AugTrainError, match="free some space"):
        metrics.append(step(40))
    assert steps(path) == [20]
    MetricsFile(path, 20, 20).append(step(40))
    assert steps(path) == [20, 40]


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 20}\n{"step": 40}')
    MetricsFile(path, 100, 100).append(step(60))
    assert steps(path) == [20, 40, 60]


@pytest.mark.parametrize("damage", [b"not JSON", b"", b"[1]", b"7", b'{"loss": 1}', b"\xff\xfe"])
def test_damage_within_the_file_is_told_with_its_line(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2, is no record") as caught:
        steps(path)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_is_told_once():
    left_out = LeftOut({"a": "a is broken; repair it"})
    (note,) = left_out.notes()
    assert note.text == "left out (data.unreadable=skip): a is broken; repair it"
    left_out.add("a", "a is still broken")
    assert list(left_out.notes()) == []
    for i in range(8):
        left_out.add(f"b{i}", f"b{i} is broken")
    (note,) = left_out.notes()
    assert "8 that cannot be read (b0, b1, b2, b3, b4 and 3 more), the first: b0 is broken" in note.text


@pytest.mark.parametrize(
    "damage",
    [
        '{"step": 2, "loss": "x"}',
        '{"step": 2, "loss": [1]}',
        '{"step": 2, "loss": NaN}',
        '{"step": 2, "lr": 1e999}',
        '{"step": 2, "miou": 0.5}',
        '{"step": 2, "miou": 0.5, "iou": 5}',
        '{"step": 2, "miou": 0.5, "iou": {"a": "x"}}',
        f'{{"step": 1{"0" * 400}}}',
        "[" * 100_000,
    ],
)
def test_values_that_are_no_numbers_are_told_with_their_line(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{damage}\n{{"step": 3}}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2, is no record"):
        steps(path)
