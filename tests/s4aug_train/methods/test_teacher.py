"""The moving average of a network."""

import copy

import torch

from s4aug_train.methods.teacher import Teacher

TAKEN = torch.tensor(False)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))


def test_it_is_the_average_of_the_weights_and_running_statistics():
    student = network()
    teacher = Teacher(student, decay=0.9)
    averages = {key: value.double().clone() for key, value in student.state_dict().items()}
    for step in range(1, 30):
        with torch.no_grad():
            for value in [*student.parameters(), *student.buffers()]:
                value.copy_(torch.randn(value.shape) * 3)
        teacher.after_step(student, TAKEN)
        decay = min(0.9, 1 - 1 / (step + 1))
        for key, value in student.state_dict().items():
            if value.is_floating_point():
                averages[key] = decay * averages[key] + (1 - decay) * value.double()
    for key, value in teacher.network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), averages[key], rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(value, student.state_dict()[key])


def test_it_is_never_trained_and_the_student_is_left_alone():
    student = network()
    teacher = Teacher(student, decay=0.9)
    before = copy.deepcopy(student.state_dict())
    prediction = teacher.predict(torch.randn(2, 3, 8, 8))
    assert not prediction.requires_grad
    teacher.after_step(student, TAKEN)
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


def test_a_saved_one_goes_on_where_it_was():
    student = network()
    first = Teacher(student, decay=0.99)
    for _ in range(3):
        first.after_step(student, TAKEN)
    second = Teacher(network(), decay=0.99)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    with torch.no_grad():
        student[0].weight += 1
    for teacher in (first, second):
        teacher.after_step(student, TAKEN)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
