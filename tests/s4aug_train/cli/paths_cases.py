"""Names of all sorts, and every command called with one."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.s4aug_train.command import call

OWN = ["--model", "network_of_test_paths:network"]
SMALL = ["--preset", "quick", "--weights", "none", "--crop", 64, "--labeled", 3, "--val", 2, "--steps", 1, *OWN]
SMALL += ["--batch-labeled", 1, "--batch-unlabeled", 1, "--set", "train.window=64", "--set", "train.stride=64"]
SORTS = {
    "spaces": " two  spaces ",
    "composed": "donn\u00e9es",
    "decomposed": "donne\u0301es",
    "cjk": "\u571f\u5730",
    "emoji": "\U0001f30d\U0001f6f0\ufe0f",
    "right to left": "\u0628\u064a\u0627\u0646\u0627\u062a",
    "quotes": 'it\'s "q" `id`',
    "percent": "100%25 %s %(x)s {id}",
    "wildcards": "a[0-9]*?b",
    "shell": "$HOME ; & | # > ~ ! \\z",
    "markup": "<b>&amp;<script>x()[red]x[bold]",
    "separators": "a,b=c:d",
}
SORT_OF_ALL = "-" + "".join(SORTS.values())
WIDE = {**SORTS, "tilde": "~", "dash": "-x", "gdal": "GTIFF_DIR:1:x", "lines": "a\nb\tc", "long": "n" * 200}


def tree(*folders):
    """All that can be seen of folders: names, contents, times."""
    paths = [path for folder in folders for path in [folder, *folder.rglob("*")]]
    return {
        str(path): (path.lstat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in paths
    }


def in_a_shell(command, home):
    """The arguments that a shell makes of a printed command."""
    script = f"trainer() {{ printf '%s\\0' \"$@\"; }}; {command.replace('s4aug-train', 'trainer', 1)}"
    shown = subprocess.run(["sh", "-c", script], capture_output=True, cwd=home, check=True)
    return [os.fsdecode(part) for part in shown.stdout.split(b"\0")[:-1]]


def every_command(home, demo, name):
    """Call each with data and outputs of a name, relative; a tree that is only read stays as it was."""
    data, rasters = home / name, home / "rasters" / name
    shutil.copytree(demo, data)
    rasters.mkdir(parents=True)
    for number, image in enumerate(sorted((demo / "valid").glob("*.jpg"))):
        shutil.copy(image, rasters / f"{name[:100]}{number}.jpg")
    before = tree(data, rasters)
    data, out = f"./{name}/", Path("out") / name
    run = out / "run"
    call("doctor", "--data", data, "--labeled", 2, "--write-classes", out / f"{name}.csv")
    call("split", "--data", data, "--labeled", 3, "--val", 2, "--out", out / f"{name}.json")
    call("preview", "--data", data, "--crop", 64, "--out", out / f"{name}.png")
    call("fit", "--data", data, "--out", run, *SMALL, "--unlabeled", rasters)
    told = json.loads((run / "splits.json").read_text())
    assert sum("unlabeled:" in tile for tile in told["unlabeled"]) == 3
    again = call("fit", "--out", run, "--resume", *OWN).stdout
    command = again.split("see it with: ")[1].split("\nrun folder: ")[0]
    assert [Path(part) for part in in_a_shell(command, home)[1:]] == [run]
    call("evaluate", run, *OWN, "--out", out / "evaluation" / f"{name}.json")
    maps = json.loads(call("predict", run, *OWN, rasters, "--out", out / "maps", "--confidence", "--json").stdout)
    assert [each["outcome"] for each in maps] == ["made"] * 3
    assert all(Path(each["map"]).is_file() for each in maps)
    call("predict", run, *OWN, f"./{rasters.relative_to(home)}/*.jpg", "--out", out / "more")
    call("report", run, *OWN, "--out", out / f"{name}.html")
    call("export", run, *OWN, "--format", "safetensors", "--out", out / f"{name}.safetensors")
    call("demo-data", out / "demo", "--tiles", 1, "--unlabeled", 0, "--size", 64)
    assert tree(home / name, rasters) == before
    return home / out
