"""`pytest benchmarks/` verifies results at small sizes; with --benchmark it also times them, at full ones."""

import datetime
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import torch

import s4aug

from .cases import FULL, KINDS, QUICK, TRAINING, VERIFY, Case, Scale, cases_of
from .contest import Contest, verify
from .contests import make_contest
from .machine import describe_machine, machine_slug
from .memory import MemoryMeter
from .records import Measured, Record, Run, merged, read_run, run_path, write_run
from .table import rendered
from .timing import FULL as FULL_BUDGET
from .timing import GPU as GPU_BUDGET
from .timing import GPU_TRAINER as GPU_TRAINER_BUDGET
from .timing import QUICK as QUICK_BUDGET
from .timing import TRAINER as TRAINER_BUDGET
from .timing import Budget, time_in_turns

RESULTS = Path(__file__).parent / "results"
RECORDS = pytest.StashKey[list[Record]]()
FAILED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("s4aug benchmarks")
    group.addoption(
        "--benchmark", action="store_true", help="time and write results; without it they are only verified"
    )
    group.addoption(
        "--benchmark-device", choices=("cpu", "cuda"), help="where to run; cuda by default where there is one"
    )
    group.addoption("--benchmark-out", type=Path, default=RESULTS, metavar="DIR", help="folder of results")
    group.addoption("--benchmark-quick", action="store_true", help="small sizes and few rounds, to try the suite")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "work(kind): the kind of work that a benchmark measures")
    config.stash[RECORDS], config.stash[FAILED] = [], []


def scale_of(config: pytest.Config) -> Scale:
    if not config.getoption("benchmark"):
        return VERIFY
    return QUICK if config.getoption("benchmark_quick") else FULL


def device_of(config: pytest.Config) -> str:
    return config.getoption("benchmark_device") or ("cuda" if torch.cuda.is_available() else "cpu")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("work")
    if mark is not None:
        cases = cases_of(mark.args[0], scale_of(metafunc.config), device_of(metafunc.config))
        metafunc.parametrize("case", cases, ids=[case.name.replace(" ", "-") for case in cases])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("benchmark"):
        for item in items:
            if item.get_closest_marker("work") is not None:
                item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def meter() -> Iterator[MemoryMeter]:
    meter = MemoryMeter()
    yield meter
    meter.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For networks on small images: on a busy machine threads wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Callable[[Case], None]:
    """Verifies a case, and times it where told to."""

    def run(case: Case) -> None:
        if scale_of(request.config) is VERIFY and case.kind in TRAINING:
            request.getfixturevalue("one_thread")
        contest = make_contest(case)
        repeatable = verify(contest)
        if request.config.getoption("benchmark"):
            record = measured(contest, repeatable, request.getfixturevalue("meter"), scale_of(request.config))
            request.config.stash[RECORDS].append(record)

    return run


def budget_of(scale: Scale, case: Case) -> Budget:
    if scale is not FULL:
        return QUICK_BUDGET
    if case.kind in ("trainer", "script"):
        return GPU_TRAINER_BUDGET if case.device == "cuda" else TRAINER_BUDGET
    return GPU_BUDGET if case.device == "cuda" else FULL_BUDGET


def measured(contest: Contest, repeatable: dict[str, bool], meter: MemoryMeter, scale: Scale) -> Record:
    synchronize = torch.cuda.synchronize if contest.case.device == "cuda" else lambda: None
    runs = {contender.name: contender.run for contender in contest.contenders}
    times = time_in_turns(runs, budget_of(scale, contest.case), synchronize=synchronize)
    figures = {each.name: each.figures() for each in contest.contenders}
    # What the script reads ahead lies in processes of its own, which nobody counts.
    peaks = {} if contest.case.kind == "script" and contest.case.device == "cpu" else meter.peaks(contest)
    contenders = {}
    for each in contest.contenders:
        rounded = tuple(float(f"{seconds / each.counts:.5g}") for seconds in times[each.name])
        told = {what: float(f"{value:.3g}") for what, value in figures[each.name].items()}
        name = each.name
        contenders[name] = Measured(each.role, rounded, peaks.get(name), repeatable.get(name), told)
    return Record(contest.case, contenders, dict(contest.refused))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and item.get_closest_marker("work") is not None:
        item.config.stash[FAILED].append(item.name)
    return report


def is_whole(run: Run, scale: Scale) -> bool:
    """Every case was measured, and none failed."""
    wanted = [case for kind in KINDS for case in cases_of(kind, scale, run.device)]
    return not run.failed and all(run.find(case) is not None for case in wanted)


def is_settled(run: Run, scale: Scale) -> bool:
    """Of the kinds that it holds every case was measured, and none failed."""
    wanted = [case for kind in run.kinds() for case in cases_of(kind, scale, run.device)]
    return not run.failed and all(run.find(case) is not None for case in wanted)


def save(folder: Path, run: Run, scale: Scale) -> Path:
    """A whole run gets a file; whole kinds go into the file of their version and machine, if there is one."""
    path = run_path(folder, run, whole=True)
    if is_whole(run, scale):
        write_run(path, run)
    elif is_settled(run, scale) and path.exists():
        write_run(path, merged(read_run(path), run))
    else:
        path = run_path(folder, run, whole=False)
        write_run(path, run)
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    records, failed = config.stash[RECORDS], config.stash[FAILED]
    if not records:
        return
    device, scale = device_of(config), scale_of(config)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    setup = describe_machine(device)
    run = Run(s4aug.__version__, machine_slug(device), device, scale.name, date, setup, tuple(records), tuple(failed))
    path = save(config.getoption("benchmark_out"), run, scale)
    terminalreporter.section("benchmarks")
    terminalreporter.write(rendered(records, width=150))
    terminalreporter.line(", ".join(f"{name} {value}" for name, value in setup.items()))
    terminalreporter.line(f"written to {path}")
