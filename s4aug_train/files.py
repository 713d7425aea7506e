"""Files that are whole or absent: written under a temporary name, synced, renamed."""

import errno
import glob
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import S4AugTrainError

LONG_BYTES = 200  # of a name, of which disks allow 255
SAMPLE_BYTES = 4096


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`.

    Args:
        path: The final name. Missing parent folders are made.

    Raises:
        S4AugTrainError: The disk is full, the folder cannot be written to, or something else than a file has the name,
            as /dev/null. Nothing is left behind and an older file under the final name stays as it was.
    """
    temporary = path.with_name(f".{_stem(path)}.{_host()}-{os.getpid()}.{os.urandom(4).hex()}.tmp")
    missing: list[Path] = []
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is there and is no file")
        missing += [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        # Where even the folder cannot be, this fails as well, and must not hide the reason.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        remove_empty(missing)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the deepest first, as far as they hold nothing."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def remove_remains(path: Path) -> None:
    """Remove what killed writers of `path` left under temporary names; nobody else may be writing it."""
    for remains in path.parent.glob(f".{glob.escape(_stem(path))}.*.tmp"):
        remains.unlink(missing_ok=True)


def remove_dead_remains(path: Path) -> None:
    """Remove what killed writers of this machine left of `path` under temporary names; others may be writing it."""
    if os.name == "nt":  # which has no way to ask for a process without ending it
        return
    for remains in path.parent.glob(f".{glob.escape(_stem(path))}.{_host()}-*.tmp"):
        number = remains.name.removeprefix(f".{_stem(path)}.{_host()}-").split(".")[0]
        if number.isdecimal() and not _runs_beside(int(number)):
            remains.unlink(missing_ok=True)


def _stem(path: Path) -> str:
    """What temporary names of a file begin with; they are longer, and must not be too long where its own is not."""
    return path.name if len(os.fsencode(path.name)) <= LONG_BYTES else content_hash(path.name)


def _host() -> str:
    """A short name of this machine: numbers of processes mean nothing on another one."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _runs_beside(number: int) -> bool:
    """Whether there is another process of a number."""
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all.

    Raises:
        S4AugTrainError: It holds a name of a file that is no text; or as `atomic_path`.
    """
    try:
        encoded = content.encode()
    except UnicodeEncodeError as error:
        line = content[: error.start].rpartition("\n")[2] + content[error.start :].partition("\n")[0]
        raise S4AugTrainError(f"cannot write {path}: a name in it is not UTF-8 ({line}); rename that file") from error
    write_bytes(path, encoded)


def append_text(path: Path, content: str) -> None:
    """Add `content` at the end of `path`."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is none, or nested beyond all use.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def real_path(path: Path) -> Path:
    """Where a path leads, as far as its links can be followed: a loop of them is no error, as it is in `resolve`."""
    return Path(os.path.realpath(path))


def shell_path(path: Path) -> str:
    """A path for a command that is printed, to be copied into a shell: quoted, and never taken for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def content_hash(value: Any) -> str:
    """SHA-256 (hex, 16 characters) of the canonical JSON of `value`."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def sampled_hash(path: Path, samples: int) -> list[Any]:
    """Size of a file and the SHA-256 (hex, 16 characters) of so many parts of it, spread over all; for JSON."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for place in range(samples):
            file.seek(max(0, size - SAMPLE_BYTES) * place // (samples - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return [size, digest.hexdigest()[:16]]


def _sync_folder(folder: Path) -> None:
    """Make a new name outlive a loss of power, where a system lets folders be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> S4AugTrainError:
    reason = error.strerror or str(error)
    cure = "give a shorter name" if error.errno == errno.ENAMETOOLONG else "free some space or choose another folder"
    return S4AugTrainError(f"cannot write {path}: {reason}; {cure}")
