"""In a real browser: no complaint, every figure visible, nothing runs out of the screen, and the keyboard is enough."""

import pytest

from s4aug_train.reporting import page
from tests.s4aug_train.reporting import planted
from tests.s4aug_train.reporting.browser import absent, browser

pytestmark = pytest.mark.skipif(absent() is not None, reason=absent() or "")
WIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('.skip') &&
  e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"""
UNSEEN = """[...document.querySelectorAll('svg.chart, img')].filter(e => { const r = e.getBoundingClientRect();
  return !e.closest('details:not([open])') && (r.width < 20 || r.height < 10 || (e.tagName == 'IMG' && !e.naturalWidth))
}).map(e => e.outerHTML.slice(0, 90))"""
# Texts of one chart that cover each other by more than rounding.
COVERED = """[...document.querySelectorAll('svg.chart')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  return texts.flatMap(([a, p], i) => texts.slice(i + 1).filter(([b, q]) => p.width && q.width &&
    Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2 &&
    Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4
  ).map(([b]) => a + ' | ' + b)) })"""
# WCAG contrast of every text outside charts with what lies behind it.
FAINT = """(() => { const light = c => { const v = c.map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 :
    ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2] };
  const parse = s => { const n = s.match(/[\\d.]+/g).map(Number);
    return s.startsWith('color(') ? [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1] };
  const behind = e => { const c = e ? parse(getComputedStyle(e).backgroundColor) : [255, 255, 255, 1];
    if (c[3] >= 1) return c; const under = behind(e.parentElement);
    return [0, 1, 2].map(i => c[i] * c[3] + under[i] * (1 - c[3])).concat(1) };
  return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() &&
      [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())).map(e => {
    const style = getComputedStyle(e), ink = parse(e.ownerSVGElement ? style.fill : style.color);
    const [a, b] = [light(ink.slice(0, 3)), light(behind(e).slice(0, 3))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 90)] }).filter(([c]) => c < 4.5) })()"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A page of two runs, and one of four whose names are long."""
    folder = tmp_path_factory.mktemp("pages")
    names = ["supervised-with-a-very-long-name", "s4net-lambda-2.0-seed-0", "s4net-lambda-2.0-seed-1", "x"]
    runs = [planted.run(name, number, "s4net") for number, name in enumerate(names)]
    (folder / "two.html").write_text(page(planted.gathered()), encoding="utf-8")
    (folder / "four.html").write_text(page(planted.gathered(*runs)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def window():
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("name", ["two.html", "four.html"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True), (320, False), (1280, True)])
def test_the_page_is_whole_on_every_screen(window, files, name, width, dark):
    window.open(files / name, width=width, dark=dark)
    assert window.complaints() == []
    assert window.ask("document.documentElement.scrollWidth") <= width
    assert window.ask(WIDE) == []
    assert window.ask(UNSEEN) == []
    assert window.ask(COVERED) == []
    assert window.ask(FAINT) == []
    paper = window.ask("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == ("rgb(18, 23, 30)" if dark else "rgb(255, 255, 255)")


def test_the_keyboard_skips_to_the_result_and_opens_what_is_folded(window, files):
    window.open(files / "two.html", width=1280)
    window.press("Tab")
    assert window.ask("document.activeElement.className") == "skip"
    assert window.ask("document.activeElement.getBoundingClientRect().top") >= 0
    window.press("Enter")
    assert window.ask("document.activeElement.id") == "main"
    for _ in range(40):
        window.press("Tab")
        if window.ask("document.activeElement.tagName") == "SUMMARY":
            break
    assert window.ask("document.activeElement.parentElement.open") is False
    window.press("Enter")
    assert window.ask("document.activeElement.parentElement.open") is True


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (WIDE, "<div style='width:3000px'>wide</div>"),
        (UNSEEN, "<img alt='broken' src='data:image/png;base64,AAAA' width='99' height='99'>"),
        (COVERED, "<svg class='chart' viewBox='0 0 99 20'><text y='9'>one</text><text y='9' x='5'>two</text></svg>"),
        (FAINT, "<p style='color:#ccc'>faint</p>"),
    ],
)
def test_what_is_wrong_on_a_screen_is_found(window, files, check, fault):
    (files / "fault.html").write_text((files / "two.html").read_text().replace("</main>", f"{fault}</main>"))
    window.open(files / "fault.html", width=1280)
    assert len(window.ask(check)) == 1
    window.complaints()


def test_nothing_runs_even_if_it_were_in_the_page(window, files):
    planted_fault = (files / "two.html").read_text().replace("<main", "<script>document.title='run'</script><main")
    (files / "fault.html").write_text(planted_fault)
    window.open(files / "fault.html", width=1280)
    assert window.ask("document.title") == "ours compared with base"
    assert any("Content Security Policy" in told for told in window.complaints())
