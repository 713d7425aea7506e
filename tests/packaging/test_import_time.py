"""`import s4aug` costs next to nothing beside torch: processor time, which other processes change little."""

import os
import subprocess
import sys
from pathlib import Path

BOUND_S = 0.1
ROOT = Path(__file__).resolve().parents[2]


def processor_seconds(code: str, compiled: Path, before: str = "import torch") -> float:
    """Of `code` in a fresh process, after `before`; what is compiled is kept in a folder."""
    timed = f"import time\n{before}\nstart = time.process_time()\n{code}\nprint(time.process_time() - start)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(compiled)}
    # Set, each process would compile the files again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    run = subprocess.run([sys.executable, "-c", timed], env=environment, capture_output=True, text=True, check=True)
    return float(run.stdout)


def test_the_library_adds_less_than_a_tenth_of_a_second_to_torch(tmp_path):
    # The first one compiles; the best counts.
    assert any(processor_seconds("import s4aug", tmp_path) < BOUND_S for _ in range(5))


def test_a_slow_import_is_found(tmp_path):
    slow = "while time.process_time() - start < 0.15: pass"
    assert processor_seconds(slow, tmp_path, before="") > BOUND_S
