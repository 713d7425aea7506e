"""The sections of pictures: validation tiles as in the paper's Figure 4, and unlabelled tiles to label next."""

from collections.abc import Iterator, Mapping, Sequence

from .gathered import Gathered, Group, Labelling, Row, Run, Unsure
from .markup import Content, Markup, tag
from .pictures import Picture
from .pieces import Section, folded, paragraph, section, small, table
from .words import percent, points, tile_name, whole

TITLES = {
    "even": "From all over the ranking",
    "best": "Best tiles",
    "worst": "Worst tiles",
    "gained": "Gained most",
    "lost": "Lost most",
}


def tiles_sections(gathered: Gathered) -> list[Section]:
    """Both of them, as far as there are pictures."""
    sections = []
    if gathered.groups:
        sections.append(_validation(gathered))
    if gathered.labelling is not None:
        sections.append(_labelling(gathered, gathered.labelling))
    return sections


def _validation(gathered: Gathered) -> Section:
    assert gathered.subject is not None
    subject, first = gathered.runs[gathered.subject].name, gathered.runs[0].name
    told = paragraph(
        f"Held-out tiles, ranked by the share of their labelled pixels that {subject} predicts right. Tiles of one "
        f"class are the easiest to get wholly right, and wholly wrong."
    )
    reasons = {
        "even": f"From all over the ranking by {subject} of the tiles that are not shown below, the better first.",
        "best": f"Those that {subject} gets most of right.",
        "worst": f"Those that {subject} gets least of right.",
        "gained": f"Those, besides the best and the worst, where {subject} gets most more right than {first}.",
        "lost": f"Those, besides the best and the worst, where {subject} gets most less right than {first}.",
    }
    groups = [_group(gathered, group, reasons[group.kind]) for group in gathered.groups]
    return section("tiles", "Tiles", told, class_legend(gathered.colors), groups)


def class_legend(colors: Mapping[str, tuple[int, int, int]]) -> Markup:
    """What the colours of label maps mean."""
    items = [tag("li", {}, _swatch(color), name) for name, color in colors.items()]
    unknown = tag("li", {}, tag("span", {"class": "swatch striped"}), "unknown or not real")
    return tag("ul", {"class": "legend classes", "aria-label": "Classes"}, items, unknown)


def _swatch(color: tuple[int, int, int]) -> Markup:
    red, green, blue = color
    return tag("span", {"class": "swatch", "style": f"background:rgb({red},{green},{blue})"})


def _group(gathered: Gathered, group: Group, reason: str) -> Content:
    rows = [_row(gathered.runs, row) for row in group.rows]
    return [tag("h3", {}, TITLES[group.kind]), small(reason), rows]


def _row(runs: Sequence[Run], row: Row) -> Markup:
    """Image, truth and each run's prediction, side by side."""
    cells = [_panel(row.image, "image"), _panel(row.truth, "truth")]
    for run, picture, right in zip(runs, row.predictions, row.right, strict=True):
        if picture is not None:
            cells.append(_panel(picture, run.name, None if right is None else f"{percent(right)} right"))
    caption = tag("figcaption", {}, tag("strong", {}, tile_name(row.tile, "Tile")), _change(runs, row))
    return tag("figure", {"class": "tile"}, caption, tag("div", {"class": "panels"}, cells))


def _change(runs: Sequence[Run], row: Row) -> str:
    """How the second of two runs differs from the first."""
    known = [(run.name, right) for run, right in zip(runs, row.right, strict=True) if right is not None]
    if len(known) != 2:
        return ""
    (_, first), (name, second) = known
    return f" \u00b7 {name} {points(second - first)} points"


def _panel(picture: Picture, name: str, told: str | None = None) -> Markup:
    below = tag("span", {"class": "under"}, tag("b", {}, name), None if told is None else f" {told}")
    return tag("div", {"class": "panel"}, image(picture), below)


def image(picture: Picture) -> Markup:
    """A picture within the page."""
    width, height = picture.size
    return tag("img", {"src": picture.uri, "alt": picture.text, "width": width, "height": height})


def _labelling(gathered: Gathered, labelling: Labelling) -> Section:
    """Unlabelled tiles, the least sure first."""
    name, count = gathered.runs[labelling.run].name, len(labelling.tiles)
    part = "all" if count == labelling.all else f"{whole(count)}, drawn at random, of the {whole(labelling.all)}"
    told = paragraph(
        f"Of {part} unlabelled tiles, these are the ones that {name} is least sure of: the entropy of its prediction, "
        f"averaged over the pixels, as a share of the largest there can be."
    )
    warning = small(
        "A suggestion, not a measurement: labels help where a network is unsure because it lacks examples, but it is "
        "also unsure where the image itself is ambiguous, and it can be sure and wrong. Tiles in a row may show the "
        "same thing; label a varied handful, and some at random."
    )
    shown = [_unsure(rank, tile) for rank, tile in enumerate(labelling.tiles, 1) if tile.image is not None]
    rows = [[f"{rank}", tile.tile, percent(tile.entropy)] for rank, tile in enumerate(labelling.tiles, 1)]
    whole_list = table("Unlabelled tiles, the least sure first", ["rank", "tile", "entropy"], rows, kind="numbers")
    everything = folded(f"All {whole(count)} as a list", whole_list)
    return section("label-next", "What to label next", told, warning, shown, _heat_legend(), everything)


def _unsure(rank: int, tile: Unsure) -> Markup:
    cells = list(_unsure_panels(tile))
    head = tag("strong", {}, f"{rank}. {tile_name(tile.tile, 'Tile')}")
    caption = tag("figcaption", {}, head, f" \u00b7 entropy {percent(tile.entropy)}")
    return tag("figure", {"class": "tile three"}, caption, tag("div", {"class": "panels"}, cells))


def _unsure_panels(tile: Unsure) -> Iterator[Markup]:
    for picture, name in ((tile.image, "image"), (tile.prediction, "prediction"), (tile.where, "entropy")):
        if picture is not None:
            yield _panel(picture, name)


def _heat_legend() -> Markup:
    return small("Entropy: ", tag("span", {"class": "ramp"}), " from 0 (sure) to 100 % (all classes alike).")
