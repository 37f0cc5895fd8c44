"""Data sets whose files are published with checksums: where the files are, and how they get there."""

from __future__ import annotations

from densenet_cli.data.download import PublishedSet, digest, make_available
from densenet_cli.data.image_data import expanded_folder
from densenet_cli.data.in_memory import InMemoryData
from densenet_cli.options import switch


class PublishedData(InMemoryData):
    """Small images whose files have published checksums.

    Args:
        root: the folder for the files; they need not be there yet.
        download: whether to download files that are missing or damaged.
        verify: whether files must have the published checksums.
        others: as InMemoryData.

    Raises:
        OptionError: from the constructor and from `prepare`, if an option breaks its rule.
        UserError: from `prepare`, if files are missing or damaged and cannot be downloaded.
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 64,
        num_workers: int | None = None,
        augment: bool = True,
        validation: int = 0,
        seed: int = 0,
        normalise: str = "mean_std",
        drop_last: bool = False,
        border: str = "zeros",
        download: bool = True,
        verify: bool = True,
        randaugment: int | None = None,
    ) -> None:
        super().__init__(
            *(batch_size, num_workers, augment, validation, seed, normalise, drop_last, border),
            randaugment=randaugment,
        )
        self.root, self.typed_root = expanded_folder("root", root), root
        self.download = switch("download", download)
        self.verify = switch("verify", verify)

    def published_set(self) -> PublishedSet:
        """The files and their checksums."""
        raise NotImplementedError

    def make_available(self) -> None:
        """Download or unpack the files that are missing. Raises UserError."""
        make_available(self.published_set(), self.root, self.download, self.verify)

    def digest(self) -> str | None:
        """From the checksums of the files; the images are not read."""
        return digest(self.published_set(), self.root, self.verify)
