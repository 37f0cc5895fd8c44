"""The images of a table with labels for a network that was trained already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from densenet_cli.data.image_table import ImageTable
from densenet_cli.data.photo_split import Files
from densenet_cli.data.table_file import read_table
from densenet_cli.data.table_labels import IGNORE, REFUSE, LabelOptions
from densenet_cli.data.table_rows import AUTO


def files_to_test(
    table: Path,
    images: str | None,
    trained: Mapping[str, Any],
    class_names: Sequence[str],
    several_labels: bool,
) -> Files:
    """The test images of a table; if it says of none that they are, its validation images, else all.

    Columns are found as in the network's training, if it was by a table that has them, too. Labels that
    are uncertain or missing are left out unless training had a meaning for them.

    Args:
        table: the file.
        images: the folder of the images; None: that of the table.
        trained: the options `data` of the network's run.
        class_names: of the network.
        several_labels: whether its images can have several labels.

    Returns:
        Their labels are indices into the class names, or (n, classes) float32; see ImageData.

    Raises:
        OptionError: as ImageTable; or if the network does not know a class of the table.
    """
    names = {field.name for field in fields(LabelOptions)} & trained.keys()
    options = {name: trained[name] for name in names}
    columns = read_table("table", str(table), table).columns
    for name in ("path_column", "label_column"):
        typed = trained.get(name, AUTO)
        are_there = all(one in columns for one in (typed if isinstance(typed, list) else [typed]))
        options[name] = typed if are_there else AUTO
    for name in ("uncertain", "missing"):
        options[name] = IGNORE if options.get(name, REFUSE) == REFUSE else options[name]
    options["labels"] = "multi" if several_labels else "single"
    data = ImageTable(str(table), images, group_column=None, **options)
    data.label_options = replace(data.label_options, known=tuple(class_names))
    content = data.content()
    kind = "test" if "test" in content.splits else "all"
    return content.files.chosen(np.flatnonzero(content.splits == kind))
