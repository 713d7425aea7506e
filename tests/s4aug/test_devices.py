"""What crosses between devices and what may not; the device "meta", which has no memory, stands for any."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from s4aug import (
    AffineRanges,
    AffineTransform,
    ArgumentError,
    RandomAffine,
    View,
    consistency_loss,
    lifting,
    linear,
    warp,
)
from s4aug.transform import fixed_point

SIZE = (16, 24)
MODES = ("bilinear", "nearest", "bicubic", "lifting")
# What a device must finish its work for: the host wants a value, or a size that hangs on values.
WAITING = (
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "_pin_memory",
)


class WaitedError(AssertionError):
    """An operator that waits for a device ran."""


class WideError(AssertionError):
    """A float64 tensor was made or taken on a device that has none."""


def tensors(*trees):
    return [leaf for leaf in tree_leaves(trees) if isinstance(leaf, torch.Tensor)]


class NoWaiting(TorchDispatchMode):
    """Within it, an operator that waits for a device, or that copies between devices, is an error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name == "lift_fresh":
            raise WaitedError("a tensor is made of numbers of the host, which are copied to the device")
        if name in WAITING or (name == "index" and any(t.dtype == torch.bool for t in tensors(args[1]))):
            raise WaitedError(f"{func} waits for the device")
        result = func(*args, **(kwargs or {}))
        # A number is not on any device yet: kernels take it as an argument.
        given = {t.device.type for t in tensors(args, kwargs) if t.ndim}
        if len(given | {t.device.type for t in tensors(result) if t.ndim}) > 1:
            raise WaitedError(f"{func} takes tensors from one device to another")
        return result


class Narrow(TorchDispatchMode):
    """Within it "meta" is a device without float64; what is copied from there to the CPU reads as ones."""

    def __init__(self):
        super().__init__()
        self.crossed = []  # (dtype, to where) of each copy between devices

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ == "_to_copy":
            source, target = args[0], torch.device(kwargs.get("device") or args[0].device)
            dtype = kwargs.get("dtype") or source.dtype
            if source.device != target:
                # Apple's copies convert there, to the CPU or from it: in one step float64 is refused.
                self._check(func, source.dtype, dtype if source.device.type == "meta" else torch.float32)
                self._check(func, dtype if target.type == "meta" else torch.float32)
                self.crossed.append((dtype, target.type))
            if source.device.type == "meta" and target.type == "cpu":
                return torch.ones(source.shape, dtype=dtype)
        result = func(*args, **kwargs)
        self._check(func, *(t.dtype for t in tensors(args, kwargs, result) if t.device.type == "meta"))
        return result

    def _check(self, func, *dtypes):
        if torch.float64 in dtypes:
            raise WideError(f"{func} meets float64 on a device that has none")


@pytest.fixture
def narrow(monkeypatch):
    """The device meta without float64."""
    monkeypatch.setattr(linear, "NARROW_DEVICES", (*linear.NARROW_DEVICES, "meta"))
    return Narrow()


def perturbation(mode, **options):
    return RandomAffine(15, (0.05, 0.05), None if mode == "lifting" else (0.8, 1.2), hflip=0.5, mode=mode, **options)


def images(device="cpu"):
    return torch.rand(2, 3, *SIZE, device=device)


class TestDefaultDevice:
    def test_what_is_worked_out_on_the_cpu_is_so_whatever_the_default(self):
        ranges = AffineRanges(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25), hflip=0.5)
        motion, place = perturbation("lifting").sample(1, SIZE), (10.0, 0.0, 5.0, 0.0, -10.0, 7.0)
        expected = ranges.reach(SIZE), motion.to_rasterio(place)
        with torch.device("meta"):
            assert (ranges.reach(SIZE), motion.to_rasterio(place)) == expected
            RandomAffine(15, mode="lifting", hflip=0.5)
            assert AffineTransform.from_rasterio(place, expected[1], SIZE, SIZE).matrix.device.type == "cpu"

    def test_a_generator_of_another_device_is_refused_with_the_cure(self):
        with pytest.raises(ArgumentError, match=r"generator is on cpu, .* on meta; make it with torch.Generator"):
            perturbation("bilinear")(images("meta"), generator=torch.Generator())


class TestWaiting:
    @pytest.mark.parametrize("source", ["seed", "global"])
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.parametrize("mode", MODES)
    def test_a_training_step_neither_waits_for_the_device_nor_copies(self, mode, device, source, monkeypatch):
        # The operator's own code, in place of the shapes that it promises for "meta"; and without the check of
        # transforms on the CPU, which reads values there.
        monkeypatch.setattr(lifting, "_factorised", lifting._factorised._init_fn)
        monkeypatch.setattr(lifting, "_check", lambda *_: None)
        content, perturb = images(device).requires_grad_(), perturbation(mode)
        valid = torch.ones(2, 1, *SIZE, dtype=torch.bool, device=device)
        seeds = [torch.tensor([1, 2], device=device), torch.tensor([3, 4], device=device)]
        with NoWaiting():
            first, second = (
                perturb(content, valid=valid, **({"seed": seed} if source == "seed" else {})) for seed in seeds
            )
            loss = consistency_loss(first.image, first, second.image, second)
            coarse = [torch.nn.functional.avg_pool2d(view.image, 4) for view in (first, second)]
            for kind in ("mse", "kl"):
                loss = loss + consistency_loss(coarse[0], first, coarse[1], second, loss=kind, detach=1)
            back = first.restore(coarse[0])
            (loss + back.image.sum()).backward()
        assert back.valid.shape == (2, 1, 4, 6)
        assert content.grad.shape == content.shape
        assert {t.device.type for t in (loss, back.image, back.valid, content.grad)} == {device}

    # Numbers given on the CPU are checked there, which reads them: these two are for a device alone.
    def test_neither_do_a_shared_part_normalisation_and_a_drawn_motion_for_the_whole_batch(self):
        content, seed = images("meta"), torch.tensor([1, 2], device="meta")
        with NoWaiting():
            flip = AffineTransform.hflip(2, SIZE, device="meta")
            crop = AffineTransform.crop(seed, seed, (12, 16), SIZE)
            view = perturbation("bilinear", same_on_batch=True)(content, shared=crop @ flip, seed=seed)
            normal = View.of(content, flip, normalize=((0.5, 0.4, 0.3), (0.2, 0.3, 0.1)))
        assert view.image.shape == (2, 3, 12, 16)
        assert normal.image.device.type == "meta"

    def test_neither_do_points_and_boxes_and_the_making_of_transforms(self):
        with NoWaiting():
            made = [
                AffineTransform.identity(2, SIZE, device="meta"),
                AffineTransform.rot90(2, 2, SIZE, device="meta"),
                AffineTransform.vflip(2, SIZE, device="meta"),
                AffineTransform.shift(torch.ones(2, 2, device="meta"), SIZE),
                AffineTransform.from_params(angle=torch.ones(2, device="meta"), scale=1.5, size=SIZE),
            ]
            motion = made[0] @ made[1] @ made[2] @ made[3].inverse() @ made[4]
            motion.at((4, 6))
            motion.points(torch.ones(2, 3, 2, device="meta"))
            motion.boxes(torch.ones(2, 3, 4, device="meta"))
        assert motion.matrix.device.type == "meta"

    @pytest.mark.parametrize(
        "planted",
        [
            lambda t: t.sum().item(),
            lambda t: bool(t.any()),
            lambda t: torch.equal(t, t),
            lambda t: t.nonzero(),
            lambda t: t[t > 0],
            lambda t: torch.tensor([1.0]),
            lambda t: t.to("meta"),
            lambda t: torch.empty(3, device="meta").copy_(t),
        ],
        ids=["item", "truth", "equal", "nonzero", "mask as index", "tensor", "to", "copy_"],
    )
    def test_the_watch_sees_waiting_and_copies(self, planted):
        with NoWaiting(), pytest.raises(WaitedError):
            planted(torch.ones(3))


class TestNarrow:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("seeds_on", ["cpu", "meta"])
    def test_a_training_step_meets_no_float64_there_and_matrices_live_on_the_cpu(self, seeds_on, mode, narrow):
        content, seed = images("meta").requires_grad_(), torch.tensor([1, 2], device=seeds_on)
        valid = torch.ones(2, 1, *SIZE, dtype=torch.bool, device="meta")
        perturb = perturbation(mode)
        with narrow:
            first, second = (perturb(content, valid=valid, seed=seed) for _ in range(2))
            loss = consistency_loss(first.image, first, second.image, second)
            coarse = [torch.nn.functional.avg_pool2d(view.image, 4) for view in (first, second)]
            loss = loss + consistency_loss(coarse[0], first, coarse[1], second)
            restored = first.restore(coarse[0])
            loss.backward()
        for transform in (first.transform, first.transform.inverse(), first.transform @ second.transform):
            assert transform.matrix.device.type == "cpu"
            assert transform.matrix.dtype == torch.float64
        assert {t.device.type for t in (first.image, first.valid, *restored, content.grad)} == {"meta"}

    @pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
    def test_whole_numbers_are_all_that_crosses_to_there(self, mode, narrow):
        motion = perturbation(mode).sample(2, SIZE, seed=torch.tensor([1, 2]))
        with narrow:
            warp(images("meta"), motion, mode=mode)
            View(images("meta"), torch.ones(2, 1, *SIZE, dtype=torch.bool, device="meta"), motion).restore(
                torch.ones(2, 2, 4, 6, device="meta")
            )
        assert set(narrow.crossed) == {(torch.int64, "meta")}

    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_the_gradient_comes_to_a_matrix_on_the_cpu_without_float64_there(self, mode, narrow):
        matrix = perturbation(mode).sample(2, SIZE, seed=torch.tensor([1, 2])).matrix.requires_grad_()
        with narrow:
            shown = warp(images("meta"), AffineTransform(matrix, SIZE), mode=mode)
            shown.image.sum().backward()
        assert shown.image.dtype == torch.float32
        assert matrix.grad.device.type == "cpu"
        assert matrix.grad.dtype == torch.float64
        assert matrix.grad.shape == (2, 3, 3)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
    def test_points_and_boxes_there_come_back_there_in_their_dtype(self, dtype, narrow):
        motion = AffineTransform.hflip(2, SIZE, device="meta")
        with narrow:
            points = motion.points(torch.ones(2, 3, 2, device="meta", dtype=dtype))
            boxes = motion.boxes(torch.ones(2, 3, 4, device="meta", dtype=dtype))
        assert (points.shape, points.dtype, points.device.type) == ((2, 3, 2), dtype, "meta")
        assert (boxes.shape, boxes.dtype, boxes.device.type) == ((2, 3, 4), dtype, "meta")

    @pytest.mark.parametrize(
        "make",
        [
            lambda: AffineTransform(torch.eye(3, device="meta").expand(2, 3, 3), SIZE),
            lambda: AffineTransform.from_params(angle=torch.ones(2, device="meta"), size=SIZE),
            lambda: AffineTransform.from_params(angle=3.0, scale=torch.ones(2, 2, device="meta"), size=SIZE),
            lambda: AffineTransform.shift(torch.ones(2, 2, device="meta"), SIZE),
            lambda: AffineTransform.crop(torch.ones(2, device="meta"), torch.ones(2, device="meta"), (8, 8), SIZE),
            lambda: AffineTransform.resize((8, 8), SIZE, 2, device="meta"),
            lambda: AffineTransform.identity(2, SIZE).to("meta"),
        ],
        ids=["matrix", "angle", "scale", "shift", "crop", "resize", "to"],
    )
    def test_transforms_made_of_numbers_there_live_on_the_cpu(self, make, monkeypatch, narrow):
        monkeypatch.setattr("s4aug.transform._check_matrix", lambda matrix: None)  # ones are no motion
        with narrow:
            made = make()
        assert (made.matrix.device.type, made.matrix.dtype, len(made)) == ("cpu", torch.float64, 2)

    @pytest.mark.parametrize("normalize", [((0.5, 0.4, 0.3), (0.2, 0.3, 0.1)), "tensors"])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
    def test_normalisation_and_other_pixel_types_meet_no_float64_there(self, dtype, normalize, narrow):
        statistics = (torch.ones(3, device="meta"),) * 2 if normalize == "tensors" else normalize
        motion = AffineTransform.from_params(angle=torch.tensor([10.0, 20.0]), size=SIZE)
        with narrow:
            shown = warp(images("meta").to(dtype), motion, normalize=statistics)
        assert shown.image.dtype == (torch.float32 if dtype == torch.uint8 else dtype)

    @pytest.mark.parametrize(
        "planted",
        [
            lambda: torch.ones(2, device="meta", dtype=torch.float64),
            lambda: torch.ones(2, device="meta").double(),
            lambda: torch.ones(2).double().to("meta"),
            lambda: torch.ones(2).to("meta", torch.float64),
            lambda: torch.ones(2, device="meta").to("cpu", torch.float64),
        ],
        ids=["made", "converted", "moved", "moved and converted", "fetched and converted"],
    )
    def test_the_watch_sees_float64_there(self, planted, narrow):
        with narrow, pytest.raises(WideError):
            planted()

    def test_the_watch_lets_float64_on_the_cpu_pass(self, narrow):
        with narrow:
            fetched = torch.ones(2, device="meta").to("cpu").to(torch.float64)
            back = fetched.to(torch.float32).to("meta")
        assert back.device.type == "meta"
        assert narrow.crossed == [(torch.float32, "cpu"), (torch.float32, "meta")]


@pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_the_whole_numbers_alone_say_what_a_warp_shows(mode, padding, monkeypatch):
    """Float32 pixels take nothing of the matrix but its fixed point, so a device without float64 shows the same."""
    motion = perturbation(mode).sample(2, SIZE, seed=torch.tensor([1, 2]))
    content = images()
    expected = warp(content, motion, mode=mode, padding=padding)
    fixed = fixed_point(motion)
    # Another matrix altogether under the same whole numbers.
    monkeypatch.setattr("s4aug.transform._fixed", lambda _: fixed)
    other = AffineTransform.from_params(angle=torch.tensor([77.0, -31.0]), size=SIZE)
    shown = warp(content, other, mode=mode, padding=padding)
    assert torch.equal(shown.image, expected.image)
    assert torch.equal(shown.valid, expected.valid)


class TestMixedDevices:
    """Each refusal names the argument, both places and the cure."""

    def here(self):
        return AffineTransform.hflip(2, SIZE)

    def there(self):
        return AffineTransform.hflip(2, SIZE, device="meta")

    @pytest.mark.parametrize("mode", MODES)
    def test_an_image_beside_a_transform_elsewhere(self, mode):
        with pytest.raises(ArgumentError, match=r"image is on cpu, the transform on meta; use transform.to\('cpu'\)"):
            warp(images(), self.there(), mode=mode)
        with pytest.raises(ArgumentError, match=r"image is on meta, the transform on cpu; use transform.to\('meta'\)"):
            warp(images("meta"), self.here(), mode=mode)

    def test_a_prediction_beside_a_view_elsewhere(self):
        view = View.of(images(), self.here())
        for cells in (SIZE, (4, 6)):
            with pytest.raises(ArgumentError, match=r"prediction is on meta, the transform on cpu; use transform.to"):
                view.restore(torch.ones(2, 1, *cells, device="meta"))

    def test_points_and_boxes_elsewhere(self):
        with pytest.raises(ArgumentError, match=r"xy is on meta, the transform on cpu; use transform.to\('meta'\)"):
            self.here().points(torch.ones(2, 3, 2, device="meta"))
        with pytest.raises(ArgumentError, match=r"xyxy is on cpu, the transform on meta; use transform.to\('cpu'\)"):
            self.there().boxes(torch.ones(2, 3, 4))

    def test_a_product_of_transforms_apart(self):
        with pytest.raises(ArgumentError, match=r"b is on meta, the transform on cpu; use transform.to\('meta'\)"):
            self.here() @ self.there()
        with pytest.raises(ArgumentError, match=r"b is on cpu, the transform on meta; use transform.to\('cpu'\)"):
            self.there() @ self.here()

    def test_a_mask_elsewhere(self):
        valid = torch.ones(2, 1, *SIZE, dtype=torch.bool, device="meta")
        for call in (lambda: warp(images(), self.here(), valid=valid), lambda: RandomAffine()(images(), valid=valid)):
            with pytest.raises(ArgumentError, match=r"valid is on meta, the image on cpu; move one of them"):
                call()

    def test_parameters_apart(self):
        with pytest.raises(ArgumentError, match=r"angle is on cpu, translation on meta; move one of them"):
            AffineTransform.from_params(
                angle=torch.ones(2), translation=torch.ones(2, 2, device="meta"), scale=1.5, size=SIZE
            )

    def test_the_cure_cures(self):
        assert warp(images("meta"), self.here().to("meta")).image.device.type == "meta"
        motion = self.there() @ self.here().to("meta")
        assert motion.points(torch.ones(2, 3, 2, device="meta")).device.type == "meta"

    @pytest.mark.parametrize("device", ["meta", "cpu"])
    def test_numbers_without_a_place_go_with_either(self, device):
        made = AffineTransform.from_params(
            angle=torch.ones(2, device=device), scale=torch.tensor(1.0, device=device), size=SIZE
        )
        assert made.matrix.device.type == device
