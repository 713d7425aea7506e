"""Made-up land cover: one tile of it, drawn from a random generator.

A tile is drawn in four steps: a map of classes, a season (the colours of soil, plants and water), paint for
each class, and a sky (sun, haze, blur, noise). Seasons and skies differ far more between tiles than classes
do within one, and fields, bush and bare ground share their colours: texture and surroundings decide.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float32]  # [3]
Plane = NDArray[np.float32]  # [H, W]
Picture = NDArray[np.float32]  # [3, H, W]

# Labels, in the order of the class table.
URBAN, FIELDS, BUSH, FOREST, WATER, BARE, UNKNOWN = 0, 1, 2, 3, 4, 5, 255

_LOOKS = 251  # entries of a table from which cells take their looks; cells may share one


class Bricks(NamedTuple):
    """Rectangles in rows, as fields, blocks and lots lie.

    Args:
        cell: Number of the rectangle at each pixel, an index for tables of `_LOOKS` entries.
        u: Distance from the rectangle's middle along the row in pixels.
        v: The same across the row.
        half_u: Half the rectangle's length in pixels.
        half_v: Half its depth.
        middle_u: Where the rectangle's middle lies in the frame that it was laid in.
        middle_v: The same across.
    """

    cell: NDArray[np.intp]  # [H, W]
    u: Plane
    v: Plane
    half_u: Plane
    half_v: Plane
    middle_u: Plane
    middle_v: Plane

    def edge_px(self) -> Plane:
        """Distance to the rectangle's nearest side."""
        distance: Plane = np.minimum(self.half_u - abs(self.u), self.half_v - abs(self.v))
        return distance


@dataclass(frozen=True)
class Season:
    """What all classes of one tile share.

    Args:
        soil, plant, canopy, water: Colours, 0 to 1.
        green: Share of the fields that are under crop.
        sun: Shift in whole pixels (down, right) from a thing to its shadow.
    """

    soil: Colour
    plant: Colour
    canopy: Colour
    water: Colour
    green: float
    sun: tuple[int, int]


# Rows are kinds, drawn apart from each other: a dry plant colour may meet a dark soil.
_SOILS = ((0.50, 0.34, 0.23), (0.56, 0.48, 0.36), (0.40, 0.36, 0.30), (0.33, 0.25, 0.20), (0.62, 0.56, 0.46))
_PLANTS = ((0.24, 0.40, 0.18), (0.17, 0.30, 0.17), (0.36, 0.40, 0.20), (0.50, 0.46, 0.26), (0.42, 0.36, 0.26))
_WATERS = ((0.09, 0.13, 0.16), (0.42, 0.34, 0.25), (0.18, 0.27, 0.20), (0.30, 0.34, 0.36), (0.12, 0.22, 0.30))
# Expected shares of the land, before water is cut out of it.
_LAND = {URBAN: 0.14, FIELDS: 0.495, BUSH: 0.11, FOREST: 0.185, BARE: 0.07}
_ROOFS = ((0.50, 0.49, 0.48), (0.52, 0.32, 0.25), (0.80, 0.79, 0.76), (0.38, 0.37, 0.37), (0.40, 0.47, 0.55))


def render_tile(
    rng: np.random.Generator, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:  # [3, H, W], [H, W]
    """Draw one tile.

    Args:
        rng: Where all its randomness comes from.
        size: Side in pixels. Class regions scale with it, things on the ground do not.

    Returns:
        The image and its labels: 0 to 5 in DeepGlobe's order, 255 for unknown.
    """
    season = _season(rng)
    parcels = _parcels(rng, size)
    label = _classes(rng, parcels)
    ground = np.zeros((3, size, size), np.float32)
    for index, paint in _PAINTERS.items():
        here = label == index
        if here.any():
            np.copyto(ground, paint(rng, parcels, season), where=here)
    ground = _paved(rng, ground, label, season)
    ground = np.where(label == UNKNOWN, 0.9, ground)
    return _sky(rng, ground), label


def _noise(rng: np.random.Generator, size: int, period_px: float) -> Plane:
    """Smooth noise in -1 to 1: a random lattice, interpolated."""
    at = np.arange(size, dtype=np.float32) / period_px + rng.random(dtype=np.float32)
    low = at.astype(np.intp)
    part = at - np.floor(at)
    part *= part * (3 - 2 * part)
    lattice = rng.random((low[-1] + 2, low[-1] + 2), dtype=np.float32) * 2 - 1
    rows = lattice[low] + part[:, None] * (lattice[low + 1] - lattice[low])  # [H, lattice]
    left = rows[:, low]
    smooth: Plane = left + part * (rows[:, low + 1] - left)
    return smooth


def _fractal(rng: np.random.Generator, size: int, period_px: float, octaves: int) -> Plane:
    """Octaves of noise, each of half the period and half the height, within -2 to 2."""
    return sum(
        (_noise(rng, size, max(period_px / 2**k, 1.5)) * 0.5**k for k in range(octaves)),
        np.zeros((size, size), np.float32),
    )


def _turned(rng: np.random.Generator, size: int, wobble_px: float) -> tuple[Plane, Plane]:
    """Pixel coordinates about the middle in a frame of random direction, bent by noise."""
    angle = rng.uniform(0, 2 * math.pi)
    line = np.arange(size, dtype=np.float32) - size / 2
    x, y = line[None, :], line[:, None]
    cos, sin = math.cos(angle), math.sin(angle)
    bend = _noise(rng, size, size / 3) * wobble_px
    return x * cos + y * sin + bend, y * cos - x * sin - bend


def _bricks(rng: np.random.Generator, u: Plane, v: Plane, length_px: float, depth_px: float) -> Bricks:
    """Lay rectangles of about the given size along u."""
    depths = (depth_px * rng.uniform(0.6, 1.4, 3 + int(np.ptp(v) / depth_px / 0.6))).astype(np.float32)
    ends = v.min() + np.cumsum(depths, dtype=np.float32)
    row = np.searchsorted(ends, v)
    lengths = (length_px * rng.uniform(0.6, 1.5, len(depths))).astype(np.float32)
    length: Plane = lengths[row]
    along = u / length + rng.random(len(depths), dtype=np.float32)[row]
    column = np.floor(along)
    half_u, half_v = length * np.float32(0.5), depths[row] * np.float32(0.5)
    inside_u = (along - column - 0.5) * length
    middle_v = ends[row] - half_v
    cell = (row * 37 + column.astype(np.intp) * 101) % _LOOKS
    return Bricks(cell, inside_u, v - middle_v, half_u, half_v, u - inside_u, middle_v)


def _domes(rng: np.random.Generator, size: int, pitch_px: float, share: float) -> Plane:
    """Heights 0 to 1 of round tops, one in a `share` of cells of `pitch_px`."""
    cells = _bricks(rng, *_turned(rng, size, pitch_px), pitch_px, pitch_px)
    radius = np.minimum(cells.half_u, cells.half_v) * _look(rng, cells, 0.6, 1.3)
    height = 1 - (cells.u**2 + cells.v**2) / radius**2
    return np.where(_look(rng, cells, 0, 1) < share, np.maximum(height, 0), 0)


def _look(rng: np.random.Generator, cells: Bricks, low: float, high: float) -> Plane:
    """A number for each cell, between low and high."""
    return rng.uniform(low, high, _LOOKS).astype(np.float32)[cells.cell]


def _mix(first: Colour | Picture, second: Colour | Picture, share: Plane) -> Picture:
    """From `first` (share 0) to `second` (share 1), each [3] or [3, H, W]; gives [3, H, W]."""
    first = first if first.ndim == 3 else first[:, None, None]
    second = second if second.ndim == 3 else second[:, None, None]
    return first + (second - first) * share


def _slope(height: Plane, sun: tuple[int, int]) -> Plane:
    """How far the ground rises away from the sun: positive on lit slopes, negative on shaded ones."""
    top, left = (1 - int(np.sign(step)) for step in sun)
    size = len(height)
    towards: Plane = np.pad(height, 1, mode="edge")[top : top + size, left : left + size]
    return height - towards


def _parcels(rng: np.random.Generator, size: int) -> Bricks:
    length_px = rng.uniform(28, 75)
    u, v = _turned(rng, size, rng.uniform(0, 14))
    return _bricks(rng, u, v, length_px, length_px * rng.uniform(0.35, 0.9))


def _classes(rng: np.random.Generator, parcels: Bricks) -> NDArray[np.uint8]:  # [H, W]
    """Zones of land, then water with its banks, then specks of unknown."""
    label = _zones(rng, parcels)
    size = len(label)
    if rng.random() < 0.42:
        shore = _shore(rng, size)
        bank = rng.uniform(0.02, 0.09) if rng.random() < 0.4 else 0
        label[shore < bank] = BARE
        label[shore < 0] = WATER
    if rng.random() < 0.15:
        line = np.arange(size, dtype=np.float32) / size
        x, y = rng.random(2, dtype=np.float32)
        blob = np.hypot(line - x, line[:, None] - y) + 0.02 * _noise(rng, size, size / 20)
        label[blob < rng.uniform(0.02, 0.06)] = UNKNOWN
    return label


def _zones(rng: np.random.Generator, parcels: Bricks) -> NDArray[np.uint8]:  # [H, W]
    """Cells around random points as a power diagram, so that small ones occur; few classes a tile."""
    size = len(parcels.cell)
    # Edges follow the parcels in most tiles (a parcel belongs where its middle lies) and are wild in others.
    x, y = parcels.middle_u, parcels.middle_v
    if rng.random() < 0.4:
        wander_px = size * rng.uniform(0.03, 0.08)
        x = x + parcels.u + wander_px * _fractal(rng, size, size / 4, 4)
        y = y + parcels.v + wander_px * _fractal(rng, size, size / 4, 4)
    count = int(rng.integers(4, 10))
    classes = rng.choice(list(_LAND), count, p=rng.dirichlet(np.array(list(_LAND.values())) * 2.0))
    points = rng.uniform(-0.6 * size, 0.6 * size, (count, 2)).astype(np.float32)
    handicap = rng.uniform(0, 0.05 * size**2, count).astype(np.float32)
    distance = np.stack([(x - u) ** 2 + (y - v) ** 2 + h for (u, v), h in zip(points, handicap, strict=True)])
    label: NDArray[np.uint8] = classes.astype(np.uint8)[distance.argmin(0)]
    return label


def _shore(rng: np.random.Generator, size: int) -> Plane:
    """Signed distance to the edge of a lake, a river or a wide water, in tile sides; negative in water."""
    u, v = (plane / size for plane in _turned(rng, size, 0.15 * size))
    ragged = 0.05 * _fractal(rng, size, size / 3, 4)
    offset, kind = rng.uniform(-0.35, 0.35), rng.random()
    if kind < 0.4:
        return np.hypot(u - offset, v * 1.4) - rng.uniform(0.08, 0.25) + ragged
    if kind < 0.75:
        curve = offset + 0.12 * np.sin(u * 5 + offset * 20)
        return abs(v - curve) - rng.uniform(0.015, 0.09) + ragged * 0.3
    return v - offset + 0.25 + ragged


def _season(rng: np.random.Generator) -> Season:
    soil, plant, water = (_drawn(rng, table, 1)[:, 0] * rng.uniform(0.8, 1.15) for table in (_SOILS, _PLANTS, _WATERS))
    # Woods are dark and greener than the crops of the same season, but in some tiles as brown as the soil.
    canopy = (0.62 * plant + rng.uniform(0, 0.25) * soil) * rng.uniform((0.7, 0.85, 0.7), (1.05, 1.15, 1.05))
    sun = (int(rng.choice((-2, -1, 1, 2))), int(rng.choice((-2, -1, 1, 2))))
    return Season(soil, plant, canopy.astype(np.float32), water, green=rng.uniform(0.05, 0.95), sun=sun)


def _drawn(rng: np.random.Generator, table: tuple[tuple[float, ...], ...], count: int) -> Plane:
    """Colours between two random rows of a table: [3, count]."""
    ends = rng.integers(0, len(table), (2, count))
    first, second = np.asarray(table, np.float32).T[:, ends].swapaxes(0, 1)
    colours: Plane = first + (second - first) * rng.random(count, dtype=np.float32)
    return colours


def _fields(rng: np.random.Generator, parcels: Bricks, season: Season) -> Picture:
    """Parcels in all states from bare soil to full crop, with rows, hedges and some orchards."""
    size = len(parcels.cell)
    state = np.clip(_look(rng, parcels, season.green - 0.6, season.green + 0.6), 0, 1)
    state += 0.12 * _fractal(rng, size, 40, 3)
    light = _look(rng, parcels, 0.75, 1.25)
    across = np.where(_look(rng, parcels, 0, 1) < 0.6, parcels.u, parcels.v)
    rows = np.sin(across * (2 * math.pi / _look(rng, parcels, 3, 8)))
    light *= 1 + _look(rng, parcels, 0.02, 0.18) * rows
    trees = _domes(rng, size, rng.uniform(6, 9), 0.9) * (_look(rng, parcels, 0, 1) < 0.12)
    ground = _mix(season.soil, season.plant, state) * light
    ground = _grown(ground, trees, season)
    edge = np.clip(rng.uniform(0.8, 2.2) - parcels.edge_px(), 0, 1) * (_look(rng, parcels, 0, 1) < 0.85)
    return _mix(ground, season.canopy if rng.random() < 0.5 else season.soil * 1.2, edge * 0.8)


def _bush(rng: np.random.Generator, parcels: Bricks, season: Season) -> Picture:
    """Grass that fades into soil without edges, with shrubs and trodden paths."""
    size = len(parcels.cell)
    cover = season.green + 0.55 * _fractal(rng, size, rng.uniform(40, 110), 5)
    ground = _mix(season.soil, season.plant, np.clip(cover, 0, 1) * 0.85)
    ground *= 1 + 0.16 * _fractal(rng, size, 5, 2)
    ground = _grown(ground, _domes(rng, size, rng.uniform(7, 12), rng.uniform(0.15, 0.5)), season)
    path = abs(_fractal(rng, size, size / 2, 3)) < 0.012
    return np.where(path, season.soil[:, None, None] * 1.2, ground)


def _forest(rng: np.random.Generator, parcels: Bricks, season: Season) -> Picture:
    """Closed canopy of round tops in two sizes, with stands of other kinds."""
    size = len(parcels.cell)
    pitch_px = rng.uniform(5, 9)
    tops = np.maximum(_domes(rng, size, pitch_px, 1.0), _domes(rng, size, pitch_px * 0.7, 0.8))
    light = 0.7 + 0.35 * tops + 0.5 * _slope(tops, season.sun)
    stand = np.clip(0.3 + 0.6 * _fractal(rng, size, 70, 4), 0, 1)
    return _mix(season.canopy, season.plant * 0.85, stand * 0.8) * np.maximum(light, 0.3)


def _bare(rng: np.random.Generator, parcels: Bricks, season: Season) -> Picture:
    """Sand and rock, rippled by wind or cut by gullies; the soil of the fields or a paler one."""
    size = len(parcels.cell)
    rough = _fractal(rng, size, rng.uniform(30, 90), 6)
    gullies = np.maximum(1 - abs(_fractal(rng, size, 45, 4)) * 7, 0)
    pale = season.soil * rng.uniform(0.95, 1.3) + rng.uniform(0, 0.07)
    ground = _mix(pale, season.soil * 0.8, np.clip(rough + 0.3, 0, 1))
    ground *= 1 + 1.6 * _slope(rough, season.sun) - rng.uniform(0, 0.3) * gullies
    return ground


def _water(rng: np.random.Generator, parcels: Bricks, season: Season) -> Picture:
    """Smooth, deep or muddy."""
    size = len(parcels.cell)
    mud = np.clip(0.1 + 0.25 * _fractal(rng, size, 120, 3), 0, 1)
    ripple = 1 + rng.uniform(0, 0.05) * _noise(rng, size, 3)
    return _mix(season.water, season.soil, mud * 0.6) * ripple


def _urban(rng: np.random.Generator, parcels: Bricks, season: Season) -> Picture:
    """Streets around blocks of lots, each lot with a roof, a yard or trees."""
    size = len(parcels.cell)
    u, v = _turned(rng, size, rng.uniform(0, 10))
    blocks = _bricks(rng, u, v, rng.uniform(40, 90), rng.uniform(22, 40))
    lot_px = rng.uniform(7, 15)
    lots = _bricks(rng, u, v, lot_px, lot_px * rng.uniform(0.7, 1.2))
    ground = _mix(season.soil, season.plant, np.clip(_look(rng, lots, -0.4, 1), 0, 1))
    ground *= _look(rng, lots, 0.85, 1.1)
    ground = _grown(ground, _domes(rng, size, 7, rng.uniform(0.05, 0.4)), season)
    ground = _built(rng, ground, blocks, lots, season)
    street = np.full(3, 0.42, np.float32) if rng.random() < 0.5 else season.soil * 1.05
    return np.where(blocks.edge_px() < rng.uniform(1.2, 2.6), street[:, None, None], ground)


def _built(rng: np.random.Generator, ground: Picture, blocks: Bricks, lots: Bricks, season: Season) -> Picture:
    """Roofs and their shadows on the lots."""
    inset = _look(rng, lots, 0.45, 0.9)
    roof = (abs(lots.u) < lots.half_u * inset) & (abs(lots.v) < lots.half_v * inset)
    roof &= (_look(rng, lots, 0, 1) < rng.uniform(0.45, 0.9)) & (blocks.edge_px() > 3)
    colours = _drawn(rng, _ROOFS, _LOOKS)[:, lots.cell]
    # Gabled roofs: the half that faces the sun is brighter.
    gable = 1 + math.copysign(0.12, season.sun[0]) * np.sign(lots.v)
    shadow = np.roll(roof, season.sun, (0, 1))
    return np.where(roof, colours * gable, np.where(shadow, ground * 0.5, ground))


def _grown(ground: Picture, trees: Plane, season: Season) -> Picture:
    """Single trees and their shadows on the ground."""
    shadow = np.roll(trees, season.sun, (0, 1)) > 0.15
    light = 0.75 + 0.3 * trees + 0.3 * _slope(trees, season.sun)
    shaded = np.where(shadow, ground * 0.6, ground)
    return np.where(trees > 0.15, season.canopy[:, None, None] * light, shaded)


_PAINTERS = {URBAN: _urban, FIELDS: _fields, BUSH: _bush, FOREST: _forest, WATER: _water, BARE: _bare}


def _paved(rng: np.random.Generator, ground: Picture, label: NDArray[np.uint8], season: Season) -> Picture:
    """A road through any land; it has no class of its own."""
    size = len(label)
    for _ in range(int(rng.integers(0, 3))):
        _, v = _turned(rng, size, rng.uniform(0, 25))
        road = abs(v - rng.uniform(-0.5, 0.5) * size) < rng.uniform(1, 2.4)
        colour = np.full(3, 0.45, np.float32) if rng.random() < 0.5 else season.soil * 1.25
        ground = np.where(road & (label != WATER), colour[:, None, None], ground)
    return ground


def _sky(rng: np.random.Generator, ground: Picture) -> NDArray[np.uint8]:  # [3, H, W]
    """Sun, clouds' shade, haze, blur and noise, as strong as they differ between days and cameras."""
    size = ground.shape[1]
    shade = 1 + rng.uniform(0, 0.22) * _noise(rng, size, size * rng.uniform(0.3, 0.8))
    tint = rng.uniform(0.85, 1.15, 3).astype(np.float32)
    picture = ground * (shade * rng.uniform(0.75, 1.3)) * tint[:, None, None]
    haze = rng.uniform(0, 0.4) ** 1.5
    air = np.array((0.55, 0.60, 0.66), np.float32) * rng.uniform(0.7, 1.1)
    picture += (air[:, None, None] - picture) * haze
    for _ in range(int(rng.integers(0, 2))):
        picture = _blurred(picture)
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    picture += grain * rng.uniform(0.003, 0.025)
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.8, 1.25)
    return np.rint(picture * 255).astype(np.uint8)


def _blurred(picture: Picture) -> Picture:
    """Binomial blur over 3 x 3 pixels."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    blurred: Picture = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16
    return blurred
