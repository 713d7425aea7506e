"""Nothing is kept between calls and nothing given is written to, so threads can share one module."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import kornia.augmentation as K
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from s4aug import AffineTransform, Perturbation, RandomAffine, View, consistency_loss, warp

SIZE = (11, 14)
SEEDS = torch.tensor([1, -2, 3])
MODES = ("bilinear", "nearest", "bicubic", "lifting")


def images(batch=3, number=0):
    return torch.rand(batch, 3, *SIZE, generator=torch.Generator().manual_seed(number))


def motion(mode, **options):
    return RandomAffine(20, (0.1, 0.1), None if mode == "lifting" else (0.8, 1.2), hflip=0.5, mode=mode, **options)


def modules():
    """What threads may share, by name."""
    lights = [K.ColorJiggle(0.3, 0.3, 0.3, 0.1, p=0.5), K.RandomGaussianNoise(p=0.5), K.RandomErasing(p=0.5)]
    made = {mode: motion(mode) for mode in MODES}
    return made | {
        "same on batch": motion("bilinear", same_on_batch=True),
        "padded": motion("bicubic", padding="reflection"),
        "light": Perturbation(motion("bilinear"), *lights),
    }


NAMES = tuple(modules())


@pytest.fixture
def hurried():
    """Threads that take turns far more often than they would."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def one_thread_each():
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


def record(perturb, content, number):
    """What one worker sees in three steps: image, validity, way back and loss."""
    generator = torch.Generator().manual_seed(number)
    seen = []
    for step in range(3):
        options = {"seed": SEEDS + 10 * number + step} if step == 1 else {"generator": generator}
        first, second = (perturb(content, **options) for _ in range(2))
        back = first.restore(first.image)
        loss = consistency_loss(first.image, first, second.image**2, second)
        seen += [first.image, first.valid, first.transform.matrix, *back, loss]
    return seen


def unequal(serial, together):
    """Numbers of the workers whose records differ."""
    pairs = enumerate(zip(serial, together, strict=True))
    return [
        number
        for number, (alone, beside) in pairs
        if any(not torch.equal(a, b) for a, b in zip(alone, beside, strict=True))
    ]


class TestThreads:
    @pytest.mark.usefixtures("hurried", "one_thread_each")
    @pytest.mark.parametrize("name", NAMES)
    def test_eight_threads_with_one_module_see_what_each_sees_alone(self, name):
        perturb, content = modules()[name], images()
        serial = [record(perturb, content, number) for number in range(8)]
        before = torch.get_rng_state()
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda number: record(perturb, content, number), range(8)))
        assert unequal(serial, together) == []
        assert torch.equal(torch.get_rng_state(), before)
        assert len({record[2].sum().item() for record in serial}) == 8

    @pytest.mark.usefixtures("hurried", "one_thread_each")
    def test_the_comparison_sees_a_module_that_keeps_its_last_draw(self):
        class Keeping(nn.Module):
            def forward(self, content, *, generator=None, seed=None):
                numbers = torch.rand(len(content), generator=generator) if seed is None else seed
                self.drawn = numbers
                # Long enough for another thread to draw.
                content.repeat(40, 1, 1, 1).sort(-1)
                transform = AffineTransform.shift(self.drawn[:, None].expand(-1, 2), SIZE)
                return View.of(content, transform)

        serial = [record(Keeping(), images(), number) for number in range(8)]
        shared = Keeping()
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda number: record(shared, images(), number), range(8)))
        assert unequal(serial, together)

    @pytest.mark.usefixtures("one_thread_each")
    def test_gradients_of_threads_are_those_of_each_alone(self):
        perturb = motion("bicubic")

        def gradient(number):
            content = images(number=number).requires_grad_()
            first, second = (perturb(content, seed=SEEDS + number + step) for step in (0, 50))
            consistency_loss(first.image, first, second.image, second).backward()
            return [content.grad]

        serial = [gradient(number) for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(gradient, range(8)))
        assert unequal(serial, together) == []


class TestState:
    @pytest.mark.parametrize("name", [name for name in NAMES if name != "light"])
    def test_calls_change_no_attribute(self, name):
        # Kornia's augmentations keep their last draw themselves; what we add keeps nothing.
        perturb = Perturbation(modules()[name], nn.Identity())
        parts = list(perturb.modules())
        before, bits = [set(part.__dict__) for part in parts], pickle.dumps(perturb)
        record(perturb, images(), 0)
        with pytest.raises(ValueError, match="valid must be"):
            perturb(images(), valid=torch.ones(3, 1, *SIZE))
        assert [set(part.__dict__) for part in parts] == before
        assert pickle.dumps(perturb) == bits

    @pytest.mark.parametrize("name", NAMES)
    def test_what_went_before_leaves_no_trace_in_a_view(self, name):
        fresh, used = modules()[name], modules()[name]
        for batch in (1, 5):
            used(images(batch, number=8), generator=torch.Generator().manual_seed(batch))
        used(torch.rand(3, 3, 7, 9), seed=SEEDS + 1)
        for mine, theirs in zip(record(used, images(), 4), record(fresh, images(), 4), strict=True):
            assert torch.equal(mine, theirs)

    @pytest.mark.parametrize("name", NAMES)
    def test_copies_pickles_and_state_dicts_show_the_same(self, name):
        perturb = modules()[name]
        expected = record(perturb, images(), 4)
        assert perturb.state_dict() == {}
        loaded = modules()[name]
        loaded.load_state_dict(perturb.state_dict())
        for twin in (copy.deepcopy(perturb), copy.copy(perturb), pickle.loads(pickle.dumps(perturb)), loaded):
            assert unequal([expected], [record(twin, images(), 4)]) == []

    def test_a_view_can_be_pickled_and_undone_elsewhere(self):
        for mode in MODES:
            view = motion(mode)(images(), seed=SEEDS)
            twin = pickle.loads(pickle.dumps(view))
            for mine, theirs in zip(twin.restore(twin.image), view.restore(view.image), strict=True):
                assert torch.equal(mine, theirs)


class Untouched:
    """Holds tensors to the values and the version that they had: writing what was there already shows too."""

    def __init__(self, **named):
        self.named = {name: (tensor, tensor.detach().clone(), tensor._version) for name, tensor in named.items()}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for name, (tensor, values, version) in self.named.items():
            assert tensor._version == version, f"{name} was written to"
            assert_close(tensor.detach(), values, rtol=0, atol=0, equal_nan=True, msg=f"{name} was changed")


class TestArguments:
    @pytest.mark.parametrize("gradient", [False, True])
    @pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
    @pytest.mark.parametrize("mode", MODES)
    def test_a_warp_writes_to_none_of_them(self, mode, padding, gradient):
        content = images()
        content[0, 0, 2, 3] = torch.nan
        valid = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(1)) < 0.9
        matrix = motion(mode).sample(3, SIZE, seed=SEEDS).matrix.clone()
        mean, std = torch.rand(3), torch.rand(3) + 0.5
        content.requires_grad_(gradient)
        matrix.requires_grad_(gradient and mode in ("bilinear", "bicubic"))
        with Untouched(image=content, valid=valid, matrix=matrix, mean=mean, std=std):
            transform = AffineTransform(matrix, SIZE)
            shown = warp(
                content, transform, valid=valid, mode=mode, padding=padding, fill=9.0, normalize=(mean, std)
            ).image
            if gradient:
                shown.nansum().backward()
            transform.inverse()
            transform.at((11, 14), stride=1, offset=2.0)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_view_the_way_back_and_the_loss_write_to_none_of_them(self, name):
        content, seed = images().requires_grad_(), SEEDS.clone()
        valid = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(1)) < 0.95
        crop = AffineTransform.crop(torch.zeros(3), torch.zeros(3), SIZE, SIZE)
        perturb = modules()[name]
        with Untouched(images=content, valid=valid, seed=seed, shared=crop.matrix):
            first, second = (perturb(content, valid=valid, shared=crop, seed=seed) for _ in range(2))
        predictions = [torch.rand(3, 2, *cells).requires_grad_() for cells in (SIZE, SIZE, (3, 4), (3, 4))]
        given = {f"prediction {number}": prediction for number, prediction in enumerate(predictions)}
        held = {"image": first.image, "valid of the view": first.valid, "matrix": first.transform.matrix}
        with Untouched(**given, **held):
            for one, other in (predictions[:2], predictions[2:]):
                for loss in ("mse", "kl"):
                    consistency_loss(one, first, other, second, loss=loss).backward()
                first.restore(one)

    def test_points_boxes_and_parameters_are_not_written_to(self):
        xy, xyxy = torch.rand(3, 4, 2).double(), torch.rand(3, 4, 4).double()
        parameters = {"angle": torch.rand(3).double(), "scale": torch.rand(3, 2).double() + 0.5}
        with Untouched(xy=xy, xyxy=xyxy, **parameters):
            made = AffineTransform.from_params(**parameters, size=SIZE)
            made.points(xy)
            made.boxes(xyxy)

    @pytest.mark.parametrize("write", [lambda t: t.add_(1), lambda t: t.copy_(t.clone())], ids=["other", "same"])
    def test_the_watch_sees_writing(self, write):
        written = torch.rand(3)
        with pytest.raises(AssertionError, match="given was"), Untouched(given=written):
            write(written)
