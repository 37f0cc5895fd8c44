"""Images in folders named by class: ImageNet's layout, or your own photos."""

from __future__ import annotations

import logging
from pathlib import Path

from densenet_cli.data.folder_layout import class_names, digest, labelled_splits, split_folders
from densenet_cli.data.image_files import LeftOut
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

    Args and Raises: as PhotoData.
    """

    name = "image_folder"
    _digest: str | None = None

    @property
    def has_validation_images(self) -> bool:
        """Whether training images are held out, or the folder has validation images of its own."""
        with self.root_as_typed():
            return self.validation > 0 or {"validation", "test"} <= split_folders(self.root).keys()

    def files(self) -> tuple[list[str], dict[str, Files]]:
        """Class names, and the files of "train", "test" and, if held out, "validation"."""
        folders, names, files = self._find()
        self._left_out.warn(self.typed_root)
        if "all" in files:
            files = self.split_off_test(files["all"])
        elif len(files) == 3:
            if self.validation:
                rule = f"must be 0: the held-out images are those of {folders['validation']}"
                raise OptionError("validation", self.validation, rule, 0)
            return names, files
        if "test" not in files:
            log.info("no test folder: the images of %s are the test images", folders["validation"])
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

    def _find(self) -> tuple[dict[str, Path], list[str], dict[str, Files]]:
        """The folder of each split, the class names, and all files of each split; sets the digest."""
        self._left_out = left_out = LeftOut()
        folders = split_folders(self.root, left_out)
        names = class_names(folders.get("train") or folders["all"])
        files = labelled_splits(folders, names, left_out)
        self._digest = digest(folders, files)
        return folders, names, files
