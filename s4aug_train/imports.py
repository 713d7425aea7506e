"""What is imported late: objects that a user names as `package.module:name`, and packages of an extra."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import ConfigError


def named_object(name: str, option: str) -> Callable[..., Any]:
    """A function or class of the user's; modules are found in the working folder too.

    Args:
        name: `package.module:name`.
        option: What it was given for, for messages.

    Raises:
        ConfigError: It is not of this form, its module cannot be imported, or it is not there or no function.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{option} takes package.module:function, got {name!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(
            f"{option} {name}: cannot import {module_name} ({type(error).__name__}: {error}); run in its folder, or "
            f"add that to PYTHONPATH"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ConfigError(f"{option} {name}: {module_name} has no function {attribute}")
    return found  # type: ignore[no-any-return]


def of_extra(name: str, extra: str) -> Any:
    """A module of a package that comes with an extra of ours.

    Args:
        name: Of the module.
        extra: Of the distribution.

    Raises:
        ConfigError: It cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ConfigError(f"this needs the package {package}: pip install 's4aug[{extra}]' ({error})") from error
