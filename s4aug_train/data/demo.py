"""How much a demo set holds; told without what draws it, which takes seconds to load."""

from dataclasses import dataclass

from ..errors import ConfigError

ID_COUNT = 900_000  # six digits


@dataclass(frozen=True)
class Demo:
    """What a demo holds.

    Args:
        tiles: Pairs of image and mask in `train/`.
        unlabeled: Images without masks in `valid/`.
        size: Side of a tile in pixels.
        seed: Tile i depends on the seed and on i alone, not on how many there are.
    """

    tiles: int = 160
    unlabeled: int = 40
    size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"tiles": (1, ID_COUNT // 2), "unlabeled": (0, ID_COUNT // 2), "size": (32, 4096)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} of a demo must be {low} to {high}, not {value}")


DEFAULT_DEMO = Demo()
