"""What a run measured, and its file `<version>-<machine>.json`."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from s4aug_train.files import write_text

from .cases import Case
from .timing import Spread, ratios, spread


@dataclass(frozen=True)
class Measured:
    """One contender of a case.

    Args:
        role: As in `Contender`.
        times_s: Of one run, by round, to five digits; round i of all contenders of a case belongs together.
        peak_bytes: Above its inputs; None where not measured.
        repeatable: Whether two runs gave the same bits; None where not asked.
        figures: What it told of itself, by name.
    """

    role: str
    times_s: tuple[float, ...]
    peak_bytes: int | None
    repeatable: bool | None
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def time(self) -> Spread:
        """Seconds."""
        return spread(self.times_s)


@dataclass(frozen=True)
class Record:
    """One case."""

    case: Case
    contenders: dict[str, Measured]
    refused: dict[str, str]

    @property
    def ours(self) -> Measured:
        """Ours as users get it: of the backend "auto"."""
        return next(each for each in self.contenders.values() if each.role == "ours")

    def ratio(self, name: str) -> Spread:
        """How many times as long as ours a contender takes; more than 1 is good for us."""
        return ratios(self.contenders[name].times_s, self.ours.times_s)


@dataclass(frozen=True)
class Session:
    """When, and on and with what, something was measured: as in `Run`."""

    date: str
    setup: dict[str, str]


@dataclass(frozen=True)
class Run:
    """All that one call measured, and the kinds of work that were measured again since.

    Args:
        version: Of s4aug.
        machine: Its slug.
        device: "cpu" or "cuda".
        scale: "full" or "quick".
        date: Of the run, ISO.
        setup: As `describe_machine` tells.
        records: Cases that were verified and timed.
        failed: Tests that failed.
        later: Of kinds that were measured by a call of their own, when and with what.
    """

    version: str
    machine: str
    device: str
    scale: str
    date: str
    setup: dict[str, str]
    records: tuple[Record, ...]
    failed: tuple[str, ...]
    later: dict[str, Session] = field(default_factory=dict)

    def find(self, case: Case) -> Record | None:
        """The record of a case."""
        return next((record for record in self.records if record.case == case), None)

    def of_kind(self, kind: str) -> Iterator[Record]:
        """Records of one kind of work."""
        return (record for record in self.records if record.case.kind == kind)

    def kinds(self) -> set[str]:
        """Those with records."""
        return {record.case.kind for record in self.records}


def merged(old: Run, new: Run) -> Run:
    """`old` with all records of the kinds that `new` holds replaced by those; it keeps when each was measured."""
    kinds = new.kinds()
    kept = tuple(record for record in old.records if record.case.kind not in kinds)
    later = old.later | dict.fromkeys(sorted(kinds), Session(new.date, new.setup))
    return replace(old, records=kept + new.records, later=later)


def run_path(folder: Path, run: Run, *, whole: bool) -> Path:
    """Trials and parts of the suite have names of their own, and never replace a whole run."""
    suffix = ("" if run.scale == "full" else f"-{run.scale}") + ("" if whole else "-part")
    return folder / f"{run.version}-{run.machine}{suffix}.json"


def write_run(path: Path, run: Run) -> None:
    """Whole or not at all; an older file of that name is replaced. A line per record, for comparing files."""
    content = asdict(run)
    for record in content["records"]:
        for measured in record["contenders"].values():
            _drop_empty(measured, "figures")
    _drop_empty(content, "later")
    lines = ",\n".join(json.dumps(record) for record in content.pop("records"))
    head = json.dumps(content, indent=2).removesuffix("\n}")
    write_text(path, f'{head},\n  "records": [\n{lines}\n]\n}}\n')


def _drop_empty(content: dict[str, Any], name: str) -> None:
    """As in the files of versions that did not know it."""
    if not content[name]:
        del content[name]


def read_run(path: Path) -> Run:
    """What `write_run` wrote."""
    content = json.loads(path.read_text())
    records = tuple(_record(each) for each in content.pop("records"))
    later = {kind: Session(**session) for kind, session in content.pop("later", {}).items()}
    return Run(**content | {"records": records, "failed": tuple(content["failed"]), "later": later})


def _record(content: dict[str, Any]) -> Record:
    case = Case(**content["case"] | {"size": tuple(content["case"]["size"])})
    contenders = {
        name: Measured(**each | {"times_s": tuple(each["times_s"])}) for name, each in content["contenders"].items()
    }
    return Record(case, contenders, content["refused"])
