"""The upper bound: as the baseline, with the masks of the unlabelled tiles too."""

from collections.abc import Sequence

from ..data.cache import Tile
from .supervised import Supervised


class Full(Supervised):
    """Supervised training on every training tile that has a mask."""

    def labelled_tiles(self, labeled: Sequence[Tile], unlabeled: Sequence[Tile]) -> Sequence[Tile]:
        """The labelled tiles, and those of the unlabelled ones that do have masks."""
        known = {tile.id for tile in labeled}
        return [*labeled, *(tile for tile in unlabeled if tile.labels is not None and tile.id not in known)]
