"""The kernels for the CPU in threads and processes."""

import importlib
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from s4aug import warp

pytest.importorskip("numba")
from s4aug.backends.numba import threads
from tests.s4aug.backends.numba_cases import MODES, SMOOTH, Case, assert_same_bits, bits, gradients
from tests.s4aug.pixels import PADDINGS


@pytest.fixture
def thread_count():
    """Sets the threads of torch, and puts them back."""
    usual = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(usual)


def outcome(mode, padding="fill", seed=0, shape=(3, 2, 150, 11)):
    """Values, validity and gradients of a warp of several chunks, small enough that torch itself takes one thread."""
    case = Case(seed, *shape[:2], shape[2:], shape[2:], mode, padding, masked=True, motion="gentle")
    image, transform, options = case.image(), case.transform(), case.options()
    given = torch.rand(shape, generator=case.random()) - 0.5
    made = [*warp(image, transform, backend="numba", **options)]
    made += [part for part in gradients(image, transform, "numba", given, **options) if part is not None]
    return made


def same(mine, theirs):
    return all(torch.equal(bits(a), bits(b)) for a, b in zip(mine, theirs, strict=True))


class TestThreads:
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    def test_any_number_of_threads_gives_the_same_bits(self, thread_count, mode, padding):
        made = []
        for number in (1, 2, 5):
            thread_count(number)
            made += [outcome(mode, padding) for _ in range(3)]
        assert all(same(made[0], other) for other in made[1:])

    @pytest.mark.parametrize("mode", SMOOTH)
    def test_gradients_to_the_matrix_of_tall_images_are_the_same_bits_too(self, thread_count, mode):
        made = []
        for number in (1, 2, 3, 5):
            thread_count(number)
            made.append(outcome(mode, shape=(4, 1, 1501, 3)))
        assert all(same(made[0], other) for other in made[1:])

    def test_work_is_shared_by_as_many_threads_as_torch_may_use(self, thread_count):
        for number in (1, 3):
            thread_count(number)
            seen, meeting = set(), threading.Barrier(number)

            def kernel(chunk, seen=seen, meeting=meeting):
                # Passed only when all threads are at work.
                meeting.wait(timeout=30)
                seen.add(threading.get_ident())

            threads.run(kernel, [(chunk,) for chunk in range(number)])
            assert len(seen) == number

    def test_an_error_in_a_chunk_is_not_lost(self, thread_count):
        def kernel(chunk):
            if chunk == 3:
                raise ValueError(f"chunk {chunk}")

        for number in (1, 2):
            thread_count(number)
            with pytest.raises(ValueError, match="chunk 3"):
                threads.run(kernel, [(chunk,) for chunk in range(5)])

    def test_several_threads_at_once_see_what_each_sees_alone(self, thread_count):
        thread_count(3)
        jobs = [(mode, padding, seed) for seed in range(3) for mode in MODES for padding in ("fill", "border")]
        alone = [outcome(*job) for job in jobs]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda job: outcome(*job), jobs))
        assert [job for job, a, b in zip(jobs, alone, together, strict=True) if not same(a, b)] == []
        assert not same(alone[0], alone[8])


WORKERS = """
import torch
from torch.utils.data import Dataset
from s4aug import AffineTransform, warp
from s4aug.backends.numba import threads

def shown(number):
    image = torch.rand(2, 2, 200, 9, generator=torch.Generator().manual_seed(number))
    move = AffineTransform.from_params(angle=torch.tensor([10.0 * number + 5, 33.0]), size=(200, 9))
    return torch.cat([warp(image, move, mode=mode, backend="numba").image for mode in ("bilinear", "nearest")])

def two_threads(*_):
    torch.set_num_threads(2)

def work(pipe):
    two_threads()
    fresh = not threads._pools
    pipe.send((fresh, shown(1).numpy(), bool(threads._pools)))

class Views(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, number):
        return shown(number)
"""


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """A module that spawned processes can import."""
    (tmp_path / "warping_workers.py").write_text(WORKERS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("warping_workers")


METHODS = [
    pytest.param(
        method,
        marks=pytest.mark.skipif(
            method not in multiprocessing.get_all_start_methods(), reason=f"the system knows no {method}"
        ),
    )
    for method in ("fork", "spawn")
]


# Python warns of any fork of a process with threads; that such a fork works is what is shown here.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
class TestProcesses:
    def test_a_child_warps_on_threads_of_its_own_after_its_parent_did(self, method, workers, thread_count):
        thread_count(2)
        expected = workers.shown(1)
        assert threads._pools
        context = multiprocessing.get_context(method)
        receiving, sending = context.Pipe(duplex=False)
        child = context.Process(target=workers.work, args=(sending,), daemon=True)
        child.start()
        answered = receiving.poll(120)
        fresh, shown, used = receiving.recv() if answered else (None, None, None)
        child.join(30 if answered else 0)
        child.kill()
        assert answered, "the child hangs"
        assert child.exitcode == 0
        assert fresh
        assert used
        assert_same_bits(torch.from_numpy(shown), expected)
        # The parent's own threads are still there.
        assert_same_bits(workers.shown(1), expected)

    def test_loader_workers_warp_as_the_parent_does(self, method, workers, thread_count):
        thread_count(2)
        expected = torch.stack([workers.shown(number) for number in range(6)])
        loader = torch.utils.data.DataLoader(
            workers.Views(),
            batch_size=2,
            num_workers=2 if method == "fork" else 1,
            multiprocessing_context=method,
            worker_init_fn=workers.two_threads,
            timeout=120,
        )
        assert_same_bits(torch.cat(list(loader)), expected)
