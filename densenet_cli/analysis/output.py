"""Where a study's results go: files of figures and numbers, and the terminal or a JSON document."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from densenet_cli.figures.drawing import Drawing, output_formats
from densenet_cli.figures.terminal import console, plain
from densenet_cli.files.json_document import json_document
from densenet_cli.plain_text import printable


@dataclass(frozen=True)
class Output:
    """Writes the figures of a study, and then tells its results.

    Attributes:
        folder: of the figures; created if it is missing.
        formats: of the figures, some of figures.drawing.FORMATS.
        as_json: whether standard output is one JSON document; then figures are written only if there
            are formats.
    """

    folder: Path
    formats: Sequence[str]
    as_json: bool = False
    _figures: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def typed(cls, folder: Path, formats: str) -> Output:
        """From --output and --format. Raises OptionError if there is no such format."""
        return cls(folder, *output_formats(name.strip() for name in formats.split(",")))

    def write(self, name: str, *drawings: Drawing) -> None:
        """Write figures and their numbers (CSV); print the files' paths and the captions.

        Args:
            name: of the files; several drawings are numbered from 1.
            drawings: of one kind.
        """
        for number, drawing in enumerate(drawings, start=1):
            own = f"{name}_{number}" if len(drawings) > 1 else name
            is_saved = self.formats or not self.as_json
            paths = drawing.save(self.folder / own, self.formats) if is_saved else []
            self._figures.append(drawing.document(own, paths))
            for path in () if self.as_json else paths:
                print(printable(path))
        for note in () if self.as_json else dict.fromkeys(drawing.note for drawing in drawings):
            console().print(plain(note))

    def finish(self, networks: Sequence[Mapping[str, Any]], *shown: RenderableType) -> None:
        """Print the results of each network: as the JSON document, or what is shown on a terminal.

        Args:
            networks: the results, for JSON.
            shown: tables, and lines of text, which are not wrapped.
        """
        if self.as_json:
            sys.stdout.write(json_document({"networks": networks, "figures": self._figures}))
            return
        for one in shown:
            if isinstance(one, str):
                print(one)
            else:
                console().print(one)
