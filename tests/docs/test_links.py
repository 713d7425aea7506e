"""Links: anchors of local ones exist, external ones are known, https, and, where there is a network, alive."""

import re
import socket
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# Every address that the pages name. The paper's is the one printed on its first page.
KNOWN = {
    "https://doi.org/10.5194/isprs-annals-V-2-2020-609-2020",
    "https://arxiv.org/abs/1706.04599",
    "https://www.kaggle.com/datasets/humansintheloop/semantic-segmentation-of-aerial-imagery",
}


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """Where the headings of a page can be linked to, as Python-Markdown and GitHub both name them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def faults_of(text, page):
    """Links to anchors that are not there."""
    faults = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        to = (page.parent / target).resolve() if target else page
        if not to.exists() or anchor not in anchors(to):
            faults.append(f"{target}#{anchor}")
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_are_there(page):
    assert faults_of(prose(page), page) == []


def test_an_anchor_that_is_missing_is_found():
    page = ROOT / "docs" / "library.md"
    assert faults_of("[a](#what-is-promised) [b](data.md#cache) [c](#nowhere) [d](no.md#x)", page) == [
        "#nowhere",
        "no.md#x",
    ]


def test_every_external_address_is_known_and_https():
    named = {url for page in PAGES for url in re.findall(r"https?://[^\s)>\"`\]]+", prose(page))}
    assert named == KNOWN
    assert all(url.startswith("https://") for url in named)


@pytest.mark.slow
@pytest.mark.parametrize("url", sorted(KNOWN))
def test_external_addresses_are_alive(url):
    try:
        socket.create_connection((url.split("/")[2], 443), timeout=10).close()
    except OSError as error:
        pytest.skip(f"no network: {error}")
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
