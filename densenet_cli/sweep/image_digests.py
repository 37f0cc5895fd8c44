"""The digests of the images that the jobs of a sweep would find now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from densenet_cli.config.build import build, naming
from densenet_cli.options import UserError
from densenet_cli.process.load_torch import load_lightning
from densenet_cli.record.trained_on import COMMON


class Images:
    """Takes the digest of each set of images once, however many jobs use it.

    Attributes:
        missing: why digests could not be taken.
    """

    def __init__(self) -> None:
        self.missing: list[str] = []
        self._known: dict[str, str | None] = {}

    def digest(self, data: Mapping[str, Any]) -> str | None:
        """That of the images which a configuration stands for; None if it cannot be told.

        Args:
            data: the section `data` of the configuration.
        """
        key = json.dumps({name: data[name] for name in data if name not in COMMON}, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._take(dict(data))
        return self._known[key]

    def _take(self, data: dict[str, Any]) -> str | None:
        try:
            load_lightning()
            with naming("data"):
                return build("data", data).digest()
        except UserError as error:
            self.missing.append(str(error))
            return None
