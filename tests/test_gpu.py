"""CUDA: the same coordinates, validity and training as on the CPU. Skipped without a GPU."""

import math

import numpy as np
import pytest
import torch

from s4aug import AffineTransform, RandomAffine, View, consistency_loss, consistency_terms, warp

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]

SIZE = (67, 53)


def images(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(3, 5, *SIZE, generator=generator) * 200).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
def test_values_and_validity_are_the_cpus(dtype, mode, padding):
    image = images(dtype)
    valid = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(1)) > 0.1
    perturb = RandomAffine(30, (0.2, 0.2), (0.5, 2.0), 10)
    motion = perturb.sample(3, SIZE, generator=torch.Generator().manual_seed(2))
    here = warp(image, motion, valid=valid, mode=mode, padding=padding)
    there = warp(image.cuda(), motion.to("cuda"), valid=valid.cuda(), mode=mode, padding=padding)
    assert torch.equal(there.valid.cpu(), here.valid)
    torch.testing.assert_close(there.image.cpu(), here.image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16, torch.int64, torch.bfloat16])
def test_lattice_moves_return_identical_bits(dtype):
    image = images().to(torch.int32).to(dtype)
    for k in range(4):
        motion = AffineTransform.rot90(k, 3, SIZE, device="cuda")
        turned = warp(image.cuda(), motion, mode="nearest").image
        assert torch.equal(turned.cpu(), torch.rot90(image, k, (2, 3)))


def test_seeded_draws_are_the_cpus():
    perturb, seed = RandomAffine(15, (0.2, 0.2), (0.75, 1.25)), torch.arange(7)
    here, there = (perturb.sample(7, SIZE, device=device, seed=seed) for device in ("cpu", "cuda"))
    torch.testing.assert_close(there.matrix.cpu(), here.matrix, rtol=1e-14, atol=1e-12)


def test_a_draw_and_a_view_do_not_wait_for_the_device():
    image, seed = images().cuda(), torch.arange(3, device="cuda")
    perturb = RandomAffine(15, (0.2, 0.2), (0.75, 1.25))
    torch.cuda.set_sync_debug_mode("error")
    try:
        first, second = perturb(image, seed=seed), perturb(image, seed=seed + 9)
        consistency_loss(first.image, first, second.image, second)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def no_waiting():
    """A step that waits for the device is an error."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def training_step(perturb, stride):
    """Two views, a prediction of each at a stride, the way back and the loss with its gradient, by seeds alone."""

    def step(image, weight, seed):
        pairs = []
        for number in range(2):
            view = perturb(image, seed=seed + 100 * number)
            pairs += [torch.nn.functional.conv2d(view.image, weight, stride=stride, padding=int(stride == 1)), view]
        loss = consistency_loss(*pairs)
        return loss.detach(), torch.autograd.grad(loss, weight)[0], pairs[1].restore(pairs[0]).image.detach()

    return step


def weights(stride):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, 5, max(stride, 3), max(stride, 3), generator=generator).cuda().requires_grad_()


def gentle(mode):
    """Motions that leave some coarse cells whole in both views."""
    return RandomAffine(15, (0.05, 0.05), None if mode == "lifting" else (0.75, 1.25), hflip=0.5, mode=mode)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic", "lifting"])
@pytest.mark.parametrize("stride", [1, 4])
def test_a_training_step_does_not_wait_for_the_device(stride, mode, request):
    # 64 x 48: a multiple of the stride, so that the convolution's map fits.
    image, weight, seed = images()[..., :64, :48].cuda() / 200, weights(stride), torch.arange(3, device="cuda")
    step = training_step(gentle(mode), stride)
    expected = step(image, weight, seed)  # libraries are loaded and memory is taken at the first step
    request.getfixturevalue("no_waiting")
    made = step(image, weight, seed)
    torch.cuda.set_sync_debug_mode("default")
    for mine, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("mode", ["bilinear", "lifting"])
def test_undoing_a_coarse_map_does_not_wait_for_the_device(mode, no_waiting):
    prediction = torch.full((3, 2, 17, 14), 0.5, device="cuda")
    view = View.of(torch.full((3, 1, *SIZE), 0.5, device="cuda"), AffineTransform.hflip(3, SIZE, device="cuda"))
    view = View(view.image, view.valid, view.transform, mode)
    for offset in (None, 0.0, 1.5):
        assert view.restore(prediction, stride=4, offset=offset).image.shape == prediction.shape


def test_the_watch_sees_waiting(no_waiting):
    value = torch.full((), 2.0, device="cuda")
    with pytest.raises(RuntimeError, match="synchronizing"):
        value.item()


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic", "lifting"])
@pytest.mark.parametrize("stride", [1, 4])
def test_a_graph_of_two_steps_replays_what_eager_steps_give(stride, mode):
    image, weight = images()[..., :64, :48].cuda() / 200, weights(stride)
    seed = torch.arange(3, device="cuda")
    step = training_step(gentle(mode), stride)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step(image, weight, seed)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = [*step(image, weight, seed), *step(image, weight, seed + 7)]
    losses = []
    for first in (0, 50):
        seed.copy_(torch.arange(first, first + 3))
        image.mul_(0.9)
        graph.replay()
        expected = [*step(image, weight, seed), *step(image, weight, seed + 7)]
        assert expected[0] > 0
        for mine, theirs in zip(captured, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
        losses += [captured[0].item(), captured[3].item()]
    assert len(set(losses)) == 4


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.uint16, torch.int64]
)
@pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
def test_lifting_permutes_as_on_the_cpu_and_comes_back_to_the_bit(padding, dtype):
    image = images().to(torch.int32).to(dtype)
    valid = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(1)) > 0.1
    motion = RandomAffine(180, (0.2, 0.2), hflip=0.5, mode="lifting").sample(3, SIZE, seed=torch.arange(3))
    here = View.of(image, motion, valid=valid, mode="lifting", padding=padding)
    there = View.of(image.cuda(), motion.to("cuda"), valid=valid.cuda(), mode="lifting", padding=padding)
    assert torch.equal(there.image.cpu(), here.image)
    assert torch.equal(there.valid.cpu(), here.valid)
    back, real = there.restore(there.image)
    assert real.double().mean() > 0.3
    where = real.expand_as(back).cpu()
    assert torch.equal(back.cpu()[where], image[where])


@pytest.mark.parametrize("lifted_on", ["cpu", "cuda"])
def test_lifting_drawn_by_seeds_on_the_gpu_is_the_cpus(lifted_on):
    perturb, seed = RandomAffine(30, (0.1, 0.1), hflip=0.5, mode="lifting"), torch.arange(3)
    here = perturb(images(), seed=seed)
    motion = perturb.sample(3, SIZE, device="cuda", seed=seed.cuda()).to(lifted_on)
    there = View.of(images().to(lifted_on), motion, mode="lifting")
    assert torch.equal(there.image.cpu(), here.image)
    assert torch.equal(there.valid.cpu(), here.valid)


def test_coordinates_hold_under_bf16_autocast():
    perturb, seed = RandomAffine(15, (0.2, 0.2), (0.75, 1.25)), torch.arange(3)
    plain = perturb(images().cuda(), seed=seed.cuda())
    with torch.autocast("cuda", torch.bfloat16):
        under = perturb(images().cuda(), seed=seed.cuda())
    assert torch.equal(plain.image, under.image)
    assert torch.equal(plain.valid, under.valid)


def objective(device, backend, dtype, layout, **options):
    """Numerator, count and both gradients of predictions for two views."""
    generator, perturb = torch.Generator().manual_seed(4), RandomAffine(15, (0.1, 0.1), (0.75, 1.25))
    logits = [3 * torch.randn(3, 7, *SIZE, generator=generator) for _ in range(2)]
    leaves = [each.to(device, dtype).contiguous(memory_format=layout).requires_grad_() for each in logits]
    blank = torch.zeros(3, 1, *SIZE, device=device)
    views = [View.of(blank, perturb.sample(3, SIZE, seed=torch.arange(3) + i).to(device)) for i in (0, 9)]
    terms = consistency_terms(leaves[0], views[0], leaves[1], views[1], backend=backend, **options)
    terms.numerator.backward()
    return [part.cpu() for part in (terms.numerator.detach(), terms.count, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"loss": "kl"}, {"mask": False}], ids=["mse", "kl", "without mask"])
def test_the_fused_objective_is_the_composition_on_the_cpu(options, dtype, layout):
    made, again = (objective("cuda", "triton", dtype, layout, **options) for _ in range(2))
    expected = objective("cpu", "torch", dtype, layout, **options)
    assert torch.equal(made[1], expected[1])
    assert all(torch.equal(mine, same) for mine, same in zip(made, again, strict=True))
    limit = {torch.float32: 1e-4, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
    for mine, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=limit, atol=limit * float(theirs.float().abs().max()))


def test_gradients_are_allowed_where_only_deterministic_algorithms_are():
    image, motion = images().cuda().requires_grad_(), AffineTransform.from_params(angle=[10.0] * 3, size=SIZE)
    torch.use_deterministic_algorithms(True)
    try:
        made = []
        for padding in ("fill", "border", "reflection"):
            runs = [warp(image, motion.to("cuda"), padding=padding, backend="triton").image for _ in range(2)]
            first, second = (torch.autograd.grad((shown**2).sum(), image)[0] for shown in runs)
            made.append(torch.equal(first, second))
    finally:
        torch.use_deterministic_algorithms(False)
    assert made == [True] * 3


@pytest.fixture
def short_run(tmp_path, monkeypatch):
    """A function that trains 12 steps on the GPU and gives the records and the final weights."""
    from s4aug_train.data.synthetic import Demo, write_demo
    from s4aug_train.engine import Checkpoint
    from s4aug_train.presets import configured
    from s4aug_train.run import RunFolder
    from s4aug_train.training import training

    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "cache"))
    data = write_demo(tmp_path / "demo", Demo(tiles=12, unlabeled=3, size=96))

    def run(name="run", **settings):
        given = {
            "data.path": str(data),
            "data.labeled": 4,
            "model.weights": "none",
            "train.device": "cuda",
            "train.steps": 12,
            "train.crop": 64,
            "train.log_every": 4,
            **settings,
        }
        folder = RunFolder(tmp_path / name)
        records = list(training(configured(given, "quick"), folder))
        return records, Checkpoint.read(folder.last).network

    return run


def losses_of(records):
    from s4aug_train.records import StepRecord

    return [record.loss for record in records if isinstance(record, StepRecord)]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "auto"])
def test_a_short_run_trains_on_the_gpu(short_run, precision):
    losses = losses_of(short_run(**{"train.precision": precision})[0])
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)


def test_every_method_trains_on_the_gpu(short_run):
    from s4aug_train.limits import CHOICES

    for name in CHOICES["method.name"]:
        losses = losses_of(short_run(name.replace("+", "-"), **{"method.name": name})[0])
        assert all(math.isfinite(loss) for loss in losses), name


@pytest.mark.parametrize("settings", [{"train.graph": True}, {"train.pool": "map"}, {"train.compile": True}])
def test_other_ways_to_take_the_same_steps(short_run, settings):
    plain, _ = short_run("plain")
    other, _ = short_run("other", **settings)
    # Kernels may differ, so weights drift apart; the losses of so few steps do not.
    assert losses_of(other) == pytest.approx(losses_of(plain), rel=0.02)


@pytest.mark.parametrize("margin", [0, 40])
@pytest.mark.parametrize("steady", [False, True])
def test_crops_of_tiles_on_the_device_are_those_of_the_map(margin, steady):
    from s4aug_train.data.cache import Tile
    from s4aug_train.data.pool import Pool
    from s4aug_train.data.resident import held_on

    rng = np.random.default_rng(0)

    def tile(size, name, valid=None):
        image, labels = rng.integers(0, 256, (3, *size), np.uint8), rng.integers(0, 6, size, np.uint8)
        return Tile(name, image, labels, valid, (), np.zeros(0))

    tiles = [tile((96, 90), "a"), tile((40, 120), "b"), tile((80, 80), "c", rng.random((80, 80)) < 0.8)]
    mapped = Pool(tiles, 64, labelled=True, margin=margin, steady=steady)
    held = Pool(held_on(tiles, torch.device("cuda")), 64, labelled=True, margin=margin, steady=steady)
    for step in range(6):
        first, second = mapped.crops(0, step, "s", 3), held.crops(0, step, "s", 3)
        assert torch.equal(first.images, second.images.cpu())
        assert torch.equal(first.labels, second.labels.cpu())
        if first.valid is None:
            assert second.valid is None or second.valid.all()
        else:
            assert torch.equal(first.valid, second.valid.cpu())


def test_steps_ask_nothing_of_the_host():
    from s4aug_train.data.cache import Tile
    from s4aug_train.data.normalization import Normalization
    from s4aug_train.data.pool import Pool
    from s4aug_train.data.resident import held_on
    from s4aug_train.engine import Loader, TrainingState
    from s4aug_train.methods import Setup, make_method
    from s4aug_train.model import UNet
    from s4aug_train.presets import configured

    device = torch.device("cuda")
    rng = np.random.default_rng(0)
    tiles = [
        Tile(str(i), rng.integers(0, 256, (3, 96, 96), np.uint8), rng.integers(0, 6, (96, 96), np.uint8), None, (), [])
        for i in range(4)
    ]
    config = configured({"train.crop": 64, "train.precision": "bf16", "method.source": "tile"})
    method = make_method(Setup(config, Normalization((127.0,) * 3, (60.0,) * 3, "measured"), 6))
    held = held_on(tiles, device)
    margins = method.margins()
    labelled, bare = (Pool(held, 64, labelled=i == 0, margin=margins[i]) for i in (0, 1))
    loader = Loader(labelled, bare, 4, 2, 0, method.weight, 0, device)
    state = TrainingState(UNet(6, encoder="resnet18").to(device).train(), method, config.train, device)
    batches = [batch for batch, _ in loader.batches(0, 6)]
    for batch in batches[:3]:
        state.train_on(batch)  # constants are made, kernels chosen
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[3:]:
            outcome = state.train_on(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(outcome.told["loss"])
