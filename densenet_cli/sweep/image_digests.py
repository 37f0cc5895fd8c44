"""The digests of the images that the jobs of a sweep would read now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from densenet_cli.config.build import build, naming
from densenet_cli.options import UserError
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.record.trained_on import COMMON


class ImageDigests:
    """Computes the digest of each set of images once, however many jobs use it.

    Attributes:
        errors: why digests could not be computed.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._known: dict[str, str | None] = {}

    def of(self, data: Mapping[str, Any]) -> str | None:
        """The digest of the images that a configuration describes; None if it cannot be computed.

        Args:
            data: the section `data` of the configuration.
        """
        key = json.dumps({name: data[name] for name in data if name not in COMMON}, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._compute(dict(data))
        return self._known[key]

    def _compute(self, data: dict[str, Any]) -> str | None:
        try:
            load_lightning()
            with naming("data"):
                return build("data", data).digest()
        except UserError as error:
            self.errors.append(str(error))
            return None
