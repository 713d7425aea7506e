"""A run whose terminal is closed, as when a connection to its machine is lost."""

import os
import select
import subprocess
import sys
import threading

import pytest
import torch

from tests.s4aug_train.cli.cli_cases import fit_arguments, wait_for_steps

pty = pytest.importorskip("pty", reason="there are no such terminals here")
# A process that leads its session takes the terminal that it opens for its own.
IN_TERMINAL = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1']


class Terminal:
    """Shows nothing, and takes what is written to it until it is closed."""

    def __init__(self, command):
        self.screen, end = pty.openpty()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*IN_TERMINAL, os.ttyname(end), *command], env=environment, start_new_session=True
        )
        self.end, self.open = end, True
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        while self.open:
            if select.select([self.screen], [], [], 0.05)[0]:
                os.read(self.screen, 65536)

    def close(self):
        self.open = False
        self.reader.join()
        os.close(self.end)
        os.close(self.screen)


def test_a_run_whose_terminal_is_closed_saves(demo_folder, tmp_path):
    out = tmp_path / "run"
    arguments = fit_arguments(demo_folder, out, "--steps", 60, "--set", "train.evaluate_every=60")
    terminal = Terminal([sys.executable, "-m", "s4aug_train", *map(str, arguments)])
    with terminal.process as process:
        try:
            wait_for_steps(out, 3, process)
        finally:
            terminal.close()
        assert process.wait(120) == 129
    assert 3 <= torch.load(out / "checkpoints/last.pt", weights_only=True)["step"] < 60
    assert f"s4aug-train fit --out {out} --resume" in (out / "log.txt").read_text()
