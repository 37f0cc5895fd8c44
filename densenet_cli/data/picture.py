"""What an image is before it is cropped: a file, the content of one, or pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np


class Pixels(Protocol):
    """An image that is decoded and upright already, and whose rows can be read one by one."""

    @property
    def height(self) -> int:
        """In pixels."""

    @property
    def width(self) -> int:
        """In pixels."""

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Some rows, (bottom - top, width, 3) uint8 or, of a grey image, (bottom - top, width)."""


Picture = str | Path | bytes | Pixels
"""An image: its file, the content of its file, or its pixels."""
