"""Calls of `s4aug-train reproduce`, and what they leave."""

import csv
from functools import partial

from tests.s4aug_train import command

SMALL = ["--encoder", "resnet18", "--weights", "none", "--scale", 0.125, "--device", "cpu"]
SMALL += ["--set", "train.workers=0", "--set", "train.log_every=1"]
call = partial(command.call, "reproduce")
failure = partial(command.failure, "reproduce")


def lines_of(out, table):
    with (out / table / "results.csv").open() as file:
        return list(csv.DictReader(file))
