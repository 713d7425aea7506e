"""CUDA: the same coordinates, validity and training as on the CPU. Skipped without a GPU."""

import math

import pytest
import torch

from s4aug import AffineTransform, RandomAffine, consistency_loss, warp

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


def test_coordinates_hold_under_bf16_autocast():
    perturb, seed = RandomAffine(15, (0.2, 0.2), (0.75, 1.25)), torch.arange(3)
    plain = perturb(images().cuda(), seed=seed.cuda())
    with torch.autocast("cuda", torch.bfloat16):
        under = perturb(images().cuda(), seed=seed.cuda())
    assert torch.equal(plain.image, under.image)
    assert torch.equal(plain.valid, under.valid)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_short_run_trains_on_the_gpu(tmp_path, monkeypatch, precision):
    from s4aug_train import api
    from s4aug_train.config import preset
    from s4aug_train.data.synthetic import Demo, write_demo
    from s4aug_train.engine import RunFolder
    from s4aug_train.records import StepRecord

    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "cache"))
    data = write_demo(tmp_path / "demo", Demo(tiles=12, unlabeled=3, size=96))
    config = preset("quick").updated(
        {
            "data.path": str(data),
            "data.labeled": 4,
            "model.weights": "none",
            "train.device": "cuda",
            "train.precision": precision,
            "train.steps": 12,
            "train.crop": 64,
            "train.log_every": 4,
        }
    )
    records = list(api.fit(config, RunFolder(tmp_path / "run")))
    losses = [record.loss for record in records if isinstance(record, StepRecord)]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
