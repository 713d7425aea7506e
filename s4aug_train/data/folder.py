"""The folder of a data set: whether it is there, which can be told before anything slow is loaded."""

from pathlib import Path

from ..errors import DataError


def check_folder(root: Path) -> None:
    """Hold the path of a data set to being that of a folder.

    Raises:
        DataError: It is not there, or is a file.
    """
    if not root.exists():
        raise DataError(f"the data folder {root} does not exist; check the path")
    if not root.is_dir():
        raise DataError(f"{root} is a file; give the folder that holds the tiles")
