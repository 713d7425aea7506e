"""Every Python block in README and docs runs; every local link leads somewhere; the README's commands are CI's."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    if "S4AUG_CACHE" not in os.environ:
        monkeypatch.setenv("S4AUG_CACHE", str(tmp_path))  # never the user's
    space = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), space)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_readmes_commands_are_those_of_ci():
    script = (ROOT / ".ci" / "run").read_text()
    first, second = (block.strip() for block in blocks(ROOT / "README.md", "sh")[:2])
    install, demo = first.split(" && ")
    assert install in script
    assert demo in script
    assert second.split()[0] == "pytest"
    assert re.search(rf"^{re.escape(second)}$", script, re.MULTILINE)


def test_every_setting_is_documented_with_its_default():
    from s4aug_train.config import Config, known_keys

    text = (ROOT / "docs" / "settings.md").read_text()
    groups = Config().to_dict()
    for key in known_keys():
        assert f"`{key}`" in text, key
        group, name = key.split(".")
        value, row = groups[group][name], next(line for line in text.splitlines() if f"`{key}`" in line)
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "weight_decay":
            assert f"{value:,}" in row or f"{value:g}" in row, row


def test_the_tests_that_show_reliability_are_there():
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text())
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert [name for name in named if f"def {name}(" not in sources] == []
