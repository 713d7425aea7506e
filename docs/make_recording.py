"""Make recording.svg and predictions.jpg in docs/images of a real run on the demo set: `python docs/make_recording.py`.

It takes some minutes, for it trains. In the recording waiting is cut short; nothing else is changed.
"""

import json
import os
import pty
import shlex
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fcntl import ioctl
from itertools import pairwise
from pathlib import Path
from termios import TIOCSWINSZ

import numpy as np
from make_pictures import grid
from terminal import Frame, Screen, Terminal, animated

from s4aug_train import predict
from s4aug_train.data.raster import read_image, write_image
from s4aug_train.data.synthetic import mask_colours
from s4aug_train.files import write_text

COLUMNS, ROWS = 80, 28
COMMANDS = (
    "s4aug-train doctor --data demo",
    "s4aug-train fit --data demo --out runs/first",
    "s4aug-train evaluate runs/first",
    "s4aug-train predict runs/first tiles/valid/118326_sat.jpg --out maps/",
)
TITLE = "A terminal: " + "; ".join(COMMANDS)
PROMPT = b"\x1b[32m$\x1b[0m "
WORD_S, SCREEN_S, READING_S = 0.15, 0.2, 2.5  # of the recording
QUIET_S = 0.04  # after which a screen of a program is taken for whole, not half drawn
MOST_SCREENS = 30  # of a command
SHOWN_TILES = 4


def recorded(commands: tuple[str, ...], folder: Path) -> Iterator[Frame]:
    """The screens while commands are typed and run in a folder, one after the other."""
    terminal = Terminal(COLUMNS, ROWS)
    for command in commands:
        terminal.feed(PROMPT)
        for word in command.split():
            yield Frame(terminal.screen(), WORD_S)
            terminal.feed(f"{word} ".encode())
        terminal.feed(b"\r\n")
        yield from (Frame(screen, SCREEN_S) for screen in thinned(list(screens(terminal, command, folder))))
        yield Frame(terminal.screen(), READING_S)


def screens(terminal: Terminal, command: str, folder: Path) -> Iterator[Screen]:
    """The screens while one command runs, without the last."""
    since = time.monotonic()
    for data in output(command, folder):
        now = time.monotonic()
        if now - since >= QUIET_S:
            yield terminal.screen()
        since = now
        terminal.feed(data)


def thinned(all_: list[Screen]) -> list[Screen]:
    """At most `MOST_SCREENS`, from the whole of them, none like the one before."""
    changed = [screen for screen, before in pairwise([*all_[:1], *all_]) if screen != before]
    count = min(len(changed), MOST_SCREENS)
    return [changed[len(changed) * number // count] for number in range(count)]


def output(command: str, folder: Path) -> Iterator[bytes]:
    """What a command writes to a terminal, as it comes.

    Raises:
        CalledProcessError: It failed.
    """
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    program = [sys.executable, "-m", "s4aug_train", *shlex.split(command)[1:]]
    settings = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "S4AUG_CACHE": "cache"}
    with subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=settings) as process:
        os.close(theirs)
        while data := _read(ours):
            yield data
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _read(descriptor: int) -> bytes:
    """What is there; nothing once the other side is closed, which Linux calls an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def predictions_picture(run: Path, pairs: Path) -> np.ndarray:  # [3, H, W] uint8
    """The first held-out tiles of a run: images, truth and predictions, one below the other.

    Args:
        run: Its folder.
        pairs: The folder of the demo set's images and masks; predictions go into one beside it.
    """
    held_out = json.loads((run / "splits.json").read_text())["val"][:SHOWN_TILES]
    images = [pairs / f"{Path(tile).name}_sat.jpg" for tile in held_out]
    masks = [pairs / f"{Path(tile).name}_mask.png" for tile in held_out]
    made = predict(images, run, out=pairs.parent / "predicted")
    labels = [mask_colours(read_image(each.job.out)[0]) for each in made]
    return grid([[read_image(path) for path in images], [read_image(path) for path in masks], labels])


if __name__ == "__main__":
    pictures = Path(__file__).parent / "images"
    with tempfile.TemporaryDirectory() as name:
        for _ in output("s4aug-train demo-data tiles", Path(name)):
            pass
        frames = list(recorded(COMMANDS, Path(name)))
        picture = predictions_picture(Path(name, "runs/first"), Path(name, "tiles/train"))
    write_text(pictures / "recording.svg", animated(frames, TITLE))
    write_image(pictures / "predictions.jpg", picture, quality=80)
