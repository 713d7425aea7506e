"""The runs of the evidence: what each part of S4Net is worth on real tiles, one command of `fit` each."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

LABELED = 60
# From scratch on two CPU cores, 4000 steps of S4Net take an hour and more.
COMMON = {
    "model.encoder": "resnet18",
    "model.weights": "none",
    "train.batch_labeled": "2",
    "train.batch_unlabeled": "1",
    "train.crop": "160",
    "train.steps": "4000",
    "train.window": "256",
    "train.stride": "256",
    "train.evaluate_every": "1000",
    "train.log_every": "50",
    "train.checkpoint_every": "250",
    "train.workers": "1",
}


@dataclass(frozen=True)
class Arm:
    """Runs that differ by their seed alone.

    Args:
        name: As in the results, and of its folders.
        method: Of `fit`.
        settings: `group.field` to value, beside `COMMON`.
        labeled: Labelled tiles.
    """

    name: str
    method: str
    settings: dict[str, str] = field(default_factory=dict)
    labeled: int = LABELED

    def folder(self, runs: Path, seed: int) -> Path:
        """Of the run of a seed."""
        return runs / f"{self.name}-{seed}"

    def command(self, data: Path, runs: Path, seed: int) -> str:
        """A line of shell that trains the run, or goes on where it was."""
        words = ["s4aug-train", "fit", "--data", str(data), "--out", str(self.folder(runs, seed)), "--resume"]
        words += ["--method", self.method, "--labeled", str(self.labeled), "--seed", str(seed)]
        for key, value in (COMMON | self.settings).items():
            words += ["--set", f"{key}={value}"]
        return shlex.join(words)


def arms() -> tuple[Arm, ...]:
    """All there are, in the order in which they are run."""
    return (
        Arm("supervised", "supervised"),
        Arm("sup+affine", "sup+affine"),
        Arm("s4net", "s4net"),
        Arm("s4net-nomask", "s4net", {"method.mask": "false"}),
        Arm("s4net-lambda0", "s4net", {"method.weight": "0"}),
        Arm("full", "full"),
        Arm("hung", "hung"),
        Arm("mean-teacher", "mean-teacher"),
        *(Arm(f"{name}-labels{count}", name, labeled=count) for count in (20, 200) for name in ("supervised", "s4net")),
        *(Arm(f"s4net-lambda{value}", "s4net", {"method.weight": value}) for value in ("0.2", "10", "20", "100")),
        Arm("s4net-sum", "s4net", {"method.classes": "sum"}),
        Arm("s4net-separate", "s4net", {"method.forward": "separate"}),
        Arm("s4net-detach", "s4net", {"method.detach": "1"}),
        Arm("s4net-tile", "s4net", {"method.source": "tile"}),
    )
