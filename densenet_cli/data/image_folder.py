"""Images in folders named by class: ImageNet's layout, or your own photos."""

from __future__ import annotations

import logging
from pathlib import Path

from densenet_cli.data.folder_layout import class_names, digest, labelled_splits, split_folders
from densenet_cli.data.image_files import LeftOut
from densenet_cli.data.pack import Pack, is_pack
from densenet_cli.data.pack_writer import Packable
from densenet_cli.data.packed_photos import check_readable
from densenet_cli.data.photo_data import PhotoData
from densenet_cli.data.photo_split import Files
from densenet_cli.data.splits import hold_out
from densenet_cli.options import OptionError

log = logging.getLogger(__name__)


class ImageFolder(PhotoData):
    """Images of any size and format, one folder for each class.

    If there are train/ and val/, the images of val/ are the test images, as for ImageNet. If there are
    train/, val/ and test/, those of val/ are the held-out images. Otherwise the folders are the
    classes, and some images of each class become the test images, always the same ones.

    Args:
        root: may also be a pack of such a folder, which is then read without the folder.
        others: as PhotoData.

    Raises: as PhotoData.
    """

    name = "image_folder"
    _digest: str | None = None
    _found: tuple[dict[str, Path], list[str], dict[str, Files]] | None = None

    @property
    def has_validation_images(self) -> bool:
        """Whether training images are held out, or the folder has validation images of its own."""
        with self.root_as_typed():
            if self.validation > 0:
                return True
            splits = (
                self._own_pack().facts["splits"] if is_pack(self.root) else split_folders(self.root)
            )
            return {"validation", "test"} <= splits.keys()

    def files(self) -> tuple[list[str], dict[str, Files]]:
        """Class names, and the files of "train", "test" and, if held out, "validation"."""
        folders, names, files = self._find()
        self._left_out.warn(self.typed_root)
        if "all" in files:
            files = self.split_off_test(files["all"])
        elif len(files) == 3:
            if self.validation:
                place = folders.get("validation", "the pack")
                rule = f"must be 0: the held-out images are those of {place}"
                raise OptionError("validation", self.validation, rule, 0)
            return names, files
        if "test" not in files:
            place = folders.get("validation", "val")
            log.info("no test folder: the images of %s are the test images", place)
            files["test"] = files.pop("validation")
        if self.validation:
            training, held_out = hold_out(files["train"].labels, self.validation)
            files["validation"] = files["train"].chosen(held_out)
            files["train"] = files["train"].chosen(training)
        return names, files

    def digest(self) -> str:
        """Of the names and sizes of all files; see `folder_layout.digest`."""
        if self._digest is None:
            with self.root_as_typed():
                self._find()
        return self._digest or ""

    def packable(self) -> Packable:
        """All images, in the order of splits, classes and names, and how many each split has."""
        _, classes, files = self._found or self._find()
        sizes = {split: len(part.labels) for split, part in files.items()}
        whole = Files.joined(files.values())
        return Packable(
            self.typed_root, whole, whole.paths.within(self.root), self.digest(), classes, sizes
        )

    def _own_pack(self) -> Pack:
        """The pack that `root` is."""
        if self.pack_options is not None:
            typed = self.pack_options.pack
            raise OptionError("pack", typed, "has no effect: data.root is a pack already", False)
        if self.pack is None:
            self.pack = Pack(self.root)
            check_readable(self.pack, self.typed_root, self.max_pixels, self.skip_broken)
        return self.pack

    def _find(self) -> tuple[dict[str, Path], list[str], dict[str, Files]]:
        """The folder of each split, the class names, and all files of each split; sets the digest.

        Those of a pack are as when it was made, without folders.
        """
        if is_pack(self.root):
            pack = self._own_pack()
            self._left_out, self._digest = LeftOut(), pack.digest()
            return {}, pack.facts["classes"], pack.files()
        self._left_out = left_out = LeftOut()
        folders = split_folders(self.root, left_out)
        names = class_names(folders.get("train") or folders["all"])
        files = labelled_splits(folders, names, left_out)
        self._digest = digest(folders, files)
        self._found = folders, names, files
        return folders, names, dict(files)
