"""Maps on disk: what a model's own trunk made of all items, kept beside its code tables for later processes.

    FOLDER/MODEL/CATALOGUE/maps.safetensors       the items' maps in the catalogue's order, as `ItemMaps` holds them

It is a table of `panfit.code_files` like any viewer's: under the fingerprints of all weights and of each item's photo,
checked by its checksum, taken over for items that are still the same, within the same bound on the folder. A later
process maps it into memory, where several share it, instead of running the trunk. Never imports train.
"""

import numpy as np

from panfit.code_files import CodeFiles
from panfit.encode import ItemMaps

NAME = "maps"
"""In a viewer's place; no viewer is called so, whose names are hexadecimal digits."""
MOST_BYTES = 1 << 30
"""Of all items' maps; more are not kept: to write them would take as much memory again."""


class MapFile:
    """Where one `ItemMaps` finds its maps, and leaves them. Does nothing where the inputs are stored maps.

    Args:
        files: of the model and the catalogue.
        maps: of the same items.
    """

    def __init__(self, files: CodeFiles, maps: ItemMaps) -> None:
        self._files, self._maps = files, maps
        self._is_asked = maps.num_bytes > MOST_BYTES or not maps.num_bytes
        self._is_written = self._is_asked

    def read(self) -> None:
        """Take what the folder has of the maps that are missing; the first call alone looks.

        Raises:
            CacheError: a file is damaged, or not what its name says.
        """
        if self._is_asked:
            return
        if self._maps.is_whole:
            self._is_asked = True
            return
        num_bytes = self._maps.num_bytes // self._maps.num_items
        whole = self._files.read(NAME, num_bytes)
        if whole is not None:
            self._maps.put(np.arange(self._maps.num_items), whole)
            self._is_written = True
        else:
            self._maps.put(*self._files.older(NAME, num_bytes))
        self._is_asked = True  # unless a file was damaged: that is told each time

    def write(self) -> None:
        """Leave the maps, once they are whole."""
        if not self._is_written and self._maps.is_whole:
            self._is_written = True
            self._files.write(NAME, self._maps.as_bytes())
