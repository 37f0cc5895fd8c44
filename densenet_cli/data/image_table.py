"""Images whose labels, splits and patients stand in a table: X-rays, skin lesions, retinas, ..."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from densenet_cli.data.file_list import Paths, stamps
from densenet_cli.data.image_data import expanded_folder
from densenet_cli.data.photo_data import PhotoData
from densenet_cli.data.photo_split import Files
from densenet_cli.data.splits import hold_out, stratified, stratified_groups
from densenet_cli.data.table_file import read_lines, read_table
from densenet_cli.data.table_images import NamedImages
from densenet_cli.data.table_labels import MEANINGS, SEPARATORS, LabelOptions, Labels, read_labels
from densenet_cli.data.table_rows import AUTO, Rows, listed, path_column
from densenet_cli.data.table_splits import (
    read_groups,
    read_splits,
    refuse_broken,
    split_column,
)
from densenet_cli.options import OptionError, choice
from densenet_cli.plain_text import counted, printable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableContent:
    """What a table says of its images, in the order of their names.

    Attributes:
        files: paths and labels of all images.
        labels: names of the classes, and the labels.
        splits: (n,) the split of each image, "all" if the table has none.
        groups: (n,) the number of each image's group; None: there are no groups.
        digest: of names, labels, splits, groups and sizes of files.
    """

    files: Files
    labels: Labels
    splits: np.ndarray
    groups: np.ndarray | None
    digest: str = ""


class ImageTable(PhotoData):
    """Images of any size and format, with labels from the columns of a CSV or Parquet file.

    Args:
        table: the file, with one row for each image.
        images: the folder of the images; None: that of the table. Cells with image names may be paths
            in it, or names without folder or ending; see table_images.
        path_column: names the images; "auto": the column that names files.
        label_column: the column of labels, or a list of columns of 0 and 1. "auto": the column with a
            usual name, such as label or Finding Labels, else all columns of 0 and 1.
        labels: "single": each image has one label, and the classes are sorted; or "multi": it may have
            several or none, and labels are (n, classes) float32.
        separator: of several labels in one column: "bar", "semicolon", "comma" or "space"; None: which
            of the first three is there.
        no_label: in such a column, the name that stands for no label.
        uncertain: what labels of -1 mean in columns of 0 and 1: "negative", "positive", or "ignore":
            they are NaN, and count neither in the loss nor in metrics. "refuse": an error.
        missing: the same for blank cells, but for "positive".
        split_column: holds train, val or test; "auto": the column with a usual name, if any.
        test_table: a table of the test images; or a .txt file with their names, one a line.
        group_column: images with the same cell in it, such as those of one patient, are never on both
            sides of a split. "auto": the column with a usual name, such as Patient ID or lesion_id;
            else "patient" with a number in all names of images; else each image stands for itself.
        group_pattern: a regular expression that finds the group in the text of group_column, or in the
            names of the images.
        options: as PhotoData, without root.

    Raises:
        OptionError: from the constructor and from `prepare`, if an option or the table breaks a rule.
        UserError: from `prepare`, if images are broken, or a package is missing.
    """

    name = "image_table"
    root_key = "images"
    __signature__: ClassVar[inspect.Signature]

    def __init__(
        self,
        table: str,
        images: str | None = None,
        path_column: str = AUTO,
        label_column: str | list[str] = AUTO,
        labels: str = "single",
        separator: str | None = None,
        no_label: str | None = "No Finding",
        uncertain: str = "refuse",
        missing: str = "refuse",
        split_column: str | None = AUTO,
        test_table: str | None = None,
        group_column: str | None = AUTO,
        group_pattern: str | None = None,
        **options: Any,
    ) -> None:
        self.table = _file("table", table)
        self.test_table = None if test_table is None else _file("test_table", test_table)
        folder = os.path.dirname(str(table)) or "." if images is None else images
        expanded_folder("images", folder)
        super().__init__(folder, **options)
        self.typed_tables = str(table), str(test_table)
        self.several_labels = choice("labels", labels, ("single", "multi")) == "multi"
        self.path_column, self.split_column = path_column, split_column
        self.group_column, self.group_pattern = group_column, group_pattern
        if separator is not None:
            choice("separator", separator, tuple(SEPARATORS))
        choice("uncertain", uncertain, MEANINGS["uncertain"])
        choice("missing", missing, MEANINGS["missing"])
        self.label_options = LabelOptions(labels, label_column, separator, no_label, uncertain, missing)
        self._content: TableContent | None = None

    @property
    def has_validation_images(self) -> bool:
        """Whether training images are held out, or the table has validation images of its own."""
        return self.validation > 0 or "validation" in self.content().splits

    def digest(self) -> str:
        """Of the names, labels, splits and groups of all images, and of the sizes of their files."""
        return self.content().digest

    def files(self) -> tuple[list[str], dict[str, Files]]:
        """Class names, and the files of "train", "test" and, if held out, "validation"."""
        content = self.content()
        splits = content.splits.copy()
        if (splits == "all").all():
            count = min(max(1, round(len(splits) * self.test_fraction)), len(splits) - 1)
            splits[:] = "train"
            aside = self._aside(content, np.arange(len(splits)), count)
            splits[aside] = "test"
            log.info("no test images: %d of %d images become the test images", len(aside), len(splits))
        if self.validation and "validation" in splits:
            rule = "must be 0: the table says which images are held out"
            raise OptionError("validation", self.validation, rule, 0)
        if self.validation:
            training = np.flatnonzero(splits == "train")
            hold_out(np.zeros(len(training)), self.validation)  # refuses too many
            splits[self._aside(content, training, self.validation)] = "validation"
        self._check_classes(content.labels, splits)
        files = {
            split: content.files.chosen(np.flatnonzero(splits == split))
            for split in ("train", "validation", "test")
        }
        return content.labels.names, {split: its for split, its in files.items() if its.paths}

    def content(self) -> TableContent:
        """What the tables say; they are read once.

        Raises:
            OptionError: if they break a rule, or if images are missing.
        """
        if self._content is None:
            with self.root_as_typed():
                self._content = self._read_tables()
        return self._content

    def _read_tables(self) -> TableContent:
        rows = self._rows()
        if not self.root.is_dir():
            raise OptionError("images", self.typed_root, "is not a folder", "/path/to/images")
        images = NamedImages(self.root)
        column = path_column(rows, self.path_column, images)
        names = rows.cells("path_column", column)
        paths = _found(rows, column, names, images)
        split = split_column(rows, self.split_column)
        to_train = self.label_options.known is None
        splits = read_splits(rows, split, self._test_images(rows, paths, images), to_train)
        groups = read_groups(rows, self.group_column, self.group_pattern, names)
        others = [one for one in (column, split, groups and groups.kind) if one]
        labels = read_labels(rows, self.label_options, others)
        _refuse_twice(rows, paths, labels)
        if groups is not None:
            refuse_broken(rows, groups, splits)
        order = np.array(sorted(range(len(names)), key=names.__getitem__))
        ordered = Paths([paths[index] for index in order])
        values = labels.values[order]
        content = TableContent(
            Files(ordered, values, stamps(ordered)),
            Labels(labels.names, values),
            splits[order],
            None if groups is None else groups.numbers[order],
        )
        if groups is not None:
            names = list(map("\0".join, zip(names, groups.names, strict=True)))
        return replace(content, digest=_digest(content, [names[index] for index in order]))

    def _rows(self) -> Rows:
        tables = [read_table("table", self.typed_tables[0], self.table)]
        if self.test_table is not None and self.test_table.suffix.lower() != ".txt":
            tables.append(read_table("test_table", self.typed_tables[1], self.test_table))
        return Rows(tables)

    def _test_images(self, rows: Rows, paths: list[str], images: NamedImages) -> np.ndarray | None:
        """Whether each row is a test image by the second file; None if there is none."""
        if self.test_table is None:
            return None
        if len(rows.tables) > 1:
            return np.arange(len(rows)) >= len(rows.tables[0])
        typed = self.typed_tables[1]
        lines = read_lines("test_table", typed, self.test_table)
        named = {found[0] for found in images.find(lines) if found}
        is_test = np.array([path in named for path in paths])
        if not is_test.any():
            rule = f"names no image of {rows.tables[0].typed}; its lines are as {listed(lines[:2])}"
            raise OptionError("test_table", typed, rule)
        if (others := len(set(lines)) - int(is_test.sum())) > 0:
            log.warning("%s: %s are not in the table", typed, counted(others, "name"))
        return is_test

    def _aside(self, content: TableContent, among: np.ndarray, count: int) -> np.ndarray:
        """Some of the images, classes in proportion and groups whole: their indices."""
        labels = Labels(content.labels.names, content.labels.values[among])
        if content.groups is None:
            known = labels.present() if self.several_labels else labels.values
            return among[stratified(known, count)[1]]
        aside = among[stratified_groups(labels.present(), content.groups[among], count)[1]]
        if not len(aside):
            rule = f"has no group that can be among {count} of {len(among)} images that are set aside"
            raise OptionError("group_column", self.group_column, rule, "null")
        if len(aside) != count:
            log.info("groups stay whole: %d images are set aside in place of %d", len(aside), count)
        return aside

    def _check_classes(self, labels: Labels, splits: np.ndarray) -> None:
        """Raise OptionError if no training image has one of the labels."""
        present, names = labels.present(), np.array(labels.names)
        counts = {split: present[splits == split].sum(axis=0) for split in np.unique(splits)}
        lacking = counts["train"] == 0
        if lacking.any():
            there = [split for split in counts if counts[split][lacking].any()]
            but = f", but {' and '.join(there)} images have" if there else ""
            rule = f"no training image has {listed(names[lacking])}{but}"
            raise OptionError("table", self.typed_tables[0], rule)


def _found(rows: Rows, column: str, names: list[str], images: NamedImages) -> list[str]:
    """The file of each image. Raises OptionError if it is missing, or if a name means several."""
    found = [paths for one in rows.tables for paths in images.find(one.columns[column])]
    if missing := [index for index, paths in enumerate(found) if not paths]:
        first = listed([f"{names[index] or 'a blank cell'} ({rows.place(index)})" for index in missing])
        rule = (
            f"{len(missing):,} of {len(names):,} images of the column {column} are not there: {first}"
        )
        stem, ending = os.path.splitext(names[missing[0]])
        if ending and (other := images.find([stem])[0]):
            rule += f"; there is {printable(other[0])}, with another ending"
        raise OptionError("images", images.folder, rule)
    if several := [index for index, paths in enumerate(found) if len(paths) > 1]:
        index = several[0]
        rule = (
            f"{len(several):,} of {len(names):,} names of the column {column} mean several files: "
            f"{names[index]} ({rows.place(index)}) is {' and '.join(found[index])}"
        )
        raise OptionError("images", images.folder, rule)
    return [paths[0] for paths in found]


def _refuse_twice(rows: Rows, paths: list[str], labels: Labels) -> None:
    """Raise OptionError if an image is in several rows."""
    places: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        places.setdefault(os.path.normpath(path), []).append(index)
    twice = {path: indices for path, indices in places.items() if len(indices) > 1}
    unlike = {
        path: indices
        for path, indices in twice.items()
        if len({row.tobytes() for row in labels.values[indices]}) > 1  # for which NaN equals NaN
    }
    if twice:
        shown = unlike or twice
        what = "with different labels" if unlike else "with the same labels; delete the repeated rows"
        first = listed([f"{path} ({rows.places(indices)})" for path, indices in shown.items()])
        raise rows.tables[0].refused(f"{counted(len(shown), 'image')} in several rows {what}: {first}")


def _digest(content: TableContent, names: list[str]) -> str:
    """Twelve hexadecimal digits that identify what a table says, and the sizes of the files.

    They depend neither on the location of the folder, nor on the order of the rows.

    Args:
        content: of the table.
        names: of the images and, if there are groups, of these.
    """
    digest = hashlib.sha256("\0".join(content.labels.names).encode())
    sizes = content.files.stamps[:, 0].tolist()
    for name, size, split in zip(names, sizes, content.splits, strict=True):
        digest.update(f"{name}\0{size}\0{split}\0".encode())
    digest.update(np.ascontiguousarray(content.labels.values).tobytes())
    return digest.hexdigest()[:12]


def _file(key: str, value: Any) -> Path:
    """The file that an option names; ~ is replaced by the home folder. Raises OptionError."""
    if not isinstance(value, str) or not value.strip():
        raise OptionError(key, value, "must be a file", "labels.csv")
    return expanded_folder(key, value)


def _signature() -> inspect.Signature:
    """The options of ImageTable and, in place of **options, those of PhotoData but `root`."""
    own = dict(inspect.signature(ImageTable.__init__).parameters)
    inherited = dict(inspect.signature(PhotoData.__init__).parameters)
    del own["self"], own["options"], inherited["self"], inherited["root"]
    return inspect.Signature(list({**own, **inherited}.values()))


ImageTable.__signature__ = _signature()
