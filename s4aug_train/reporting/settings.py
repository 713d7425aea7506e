"""The sections of configuration and environment: first what differs, then all of it, folded."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import Config
from .gathered import Gathered, Run
from .markup import Content, Markup, tag
from .pieces import Section, folded, paragraph, section, table
from .words import ABSENT, counted


def settings_sections(gathered: Gathered) -> list[Section]:
    """Both of them."""
    return [_configuration(gathered.runs), _environment(gathered.runs)]


def _configuration(runs: Sequence[Run]) -> Section:
    parts: list[Content] = []
    if len(runs) > 1:
        parts.append(_differences(runs, [run.settings for run in runs], "settings"))
    else:
        defaults = Config().flat()
        chosen = {key: value for key, value in runs[0].settings.items() if defaults.get(key, ABSENT) != value}
        rows: list[list[Content]] = [
            [code(key), shown(value), shown(defaults.get(key, ABSENT))] for key, value in chosen.items()
        ]
        parts.append(
            table("Settings that differ from the defaults", ["setting", runs[0].name, "default"], rows, kind="values")
            if rows
            else paragraph("All settings are the defaults.")
        )
    return section("configuration", "Configuration", parts, _all(runs, [run.settings for run in runs], "settings"))


def _environment(runs: Sequence[Run]) -> Section:
    values = [run.environment for run in runs]
    differences = _differences(runs, values, "versions and machines") if len(runs) > 1 else None
    places: list[list[Content]] = [[run.name, code(run.path)] for run in runs]
    return section(
        "environment",
        "Environment",
        differences,
        _all(runs, values, "versions and machine", opened=len(runs) == 1),
        table("Where the runs are", ["run", "path"], places, kind="values"),
    )


def _differences(runs: Sequence[Run], values: Sequence[Mapping[str, Any]], what: str) -> Markup:
    known = [index for index, one in enumerate(values) if one]
    if len(known) < 2:
        return paragraph(f"There are no {what} of two runs to compare.")
    keys = [key for key in _keys(values) if len({shown(values[index].get(key, ABSENT)) for index in known}) > 1]
    if not keys:
        return paragraph(f"All {what} are the same in {counted(len(known), 'run')}.")
    return table(f"What differs: {what}", *_columns(runs, values, keys), kind="values")


def _all(runs: Sequence[Run], values: Sequence[Mapping[str, Any]], what: str, *, opened: bool = False) -> Markup:
    keys = _keys(values)
    if not keys:
        return paragraph(f"No {what} can be read.")
    whole = table(f"All {what}", *_columns(runs, values, keys), kind="values")
    return whole if opened else folded(f"All {what}", whole)


def _columns(
    runs: Sequence[Run], values: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> tuple[list[str], list[list[Content]]]:
    rows: list[list[Content]] = [[code(key), *(shown(one.get(key, ABSENT)) for one in values)] for key in keys]
    return ["", *(run.name for run in runs)], rows


def _keys(values: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for one in values for key in one))


def code(text: str) -> Markup:
    """What is typed or read by a machine."""
    return tag("code", {}, text)


def shown(value: Any) -> str:
    """A setting as it would be typed."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
