"""Which pack a data set of photos is read from: where it is, whether it fits, and making it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densenet_cli.data.image_check import Examined, content_digest, faults_message
from densenet_cli.data.image_data import expanded_folder
from densenet_cli.data.older_packs import ENDING, pack_name
from densenet_cli.data.pack import RAW, Pack, Packing, is_pack
from densenet_cli.data.pack_writer import Packable, make_pack
from densenet_cli.files.cache import cache_folder
from densenet_cli.options import OptionError, UserError, whole_number
from densenet_cli.plain_text import printable


@dataclass(frozen=True)
class PackOptions:
    """The options pack, pack_size and pack_quality, checked.

    Attributes:
        pack: true: in the cache folder; a folder NAME.pack: this pack; another folder: in it.
        packing: how images are packed.
    """

    pack: str | bool
    packing: Packing

    def folder(self, what: Packable) -> Path:
        """The folder of the pack of these images."""
        if isinstance(self.pack, str):
            typed = expanded_folder("pack", self.pack)
            if typed.is_file():
                raise OptionError(
                    "pack", self.pack, "is a file; a pack is a folder", f"/path/new{ENDING}"
                )
            if typed.suffix == ENDING or is_pack(typed):
                return typed
            return typed / pack_name(what.folder_name, what.key, self.packing)
        cache = cache_folder("packs")
        if cache is None:
            rule = "needs a cache folder, and this user has no home folder; name a place for the pack"
            raise OptionError("pack", True, rule, f"/path/photos{ENDING}")
        return cache / pack_name(what.folder_name, what.key, self.packing)


def pack_options(pack: Any, size: Any, quality: Any) -> PackOptions | None:
    """The three options, checked; None if nothing is packed. Raises OptionError."""
    if not isinstance(pack, (bool, str)) or pack == "":
        raise OptionError("pack", pack, "must be true, false, or a folder", f"/path/photos{ENDING}")
    if size is not None:
        whole_number("pack_size", size, 256, at_least=8)
    if quality != RAW and (
        isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100
    ):
        rule = "must be raw, or a whole number from 1 to 100, the quality of JPEG files"
        raise OptionError("pack_quality", quality, rule, 90)
    return PackOptions(pack, Packing(size, quality)) if pack else None


def open_or_make(
    options: PackOptions, what: Packable, max_pixels: int | None, skip_broken: bool = False
) -> Pack:
    """The pack of these images, which is made if there is none.

    Args:
        options: as typed.
        what: the images.
        max_pixels: see `photo.limit_pixels`.
        skip_broken: whether images that cannot be read are left out.

    Raises:
        UserError: if it holds other images, or was packed otherwise; as make_pack.
    """
    folder = options.folder(what)
    if not is_pack(folder):
        return make_pack(folder, what, options.packing, max_pixels, skip_broken)
    pack = Pack(folder)
    typed = {"pack_size": options.packing.size, "pack_quality": options.packing.quality}
    made = {"pack_size": pack.packing.size, "pack_quality": pack.packing.quality}
    for key, value in typed.items():
        if value != made[key]:
            rule = f"{folder} was packed with another value; name another pack, or type this one"
            raise OptionError(key, value, rule, made[key])
    example = folder.with_name(f"new{ENDING}")
    remedy = (
        f"delete {folder} to pack the images again, or name a new pack beside it, which copies the "
        "images that have not changed"
    )
    if pack.facts["key"] != what.key:
        rule = (
            f"holds other images than {what.typed} has now ({_first_difference(pack, what)}); {remedy}"
        )
        raise OptionError("pack", options.pack, rule, example)
    if (name := _rewritten(pack, what)) is not None:
        rule = f"holds an older {printable(name)} than {what.typed} has now; {remedy}"
        raise OptionError("pack", options.pack, rule, example)
    check_readable(pack, what.typed, max_pixels, skip_broken)
    return pack


def check_readable(pack: Pack, typed: str, max_pixels: int | None, skip_broken: bool = False) -> None:
    """Raise UserError if images were left out of a pack as broken, or are larger than allowed."""
    faults = (
        []
        if skip_broken
        else [
            Examined(f"{printable(pack.paths[int(row)])}: {why}")
            for row, why in pack.facts["broken"].items()
        ]
    )
    if max_pixels is not None:
        large = np.flatnonzero(pack.index["pixels"] > max_pixels)
        faults += [
            Examined(f"{printable(pack.paths[row])}: has {pixels:,} pixels", needed=pixels)
            for row, pixels in zip(large.tolist(), pack.index["pixels"][large].tolist(), strict=True)
        ]
    if faults:
        raise UserError(faults_message(faults, f"{len(pack)} images of {typed}", max_pixels))


def _first_difference(pack: Pack, what: Packable) -> str:
    """The first image that is not the same in the pack and in the folder."""
    sizes = pack.index["size"]
    for row in range(min(len(pack), len(what.names))):
        before, now = pack.paths[row], what.names[row]
        if before != now:
            other = min(before, now)
            return f"{printable(other)} is {'missing' if other == before else 'new'}"
        if sizes[row] != what.files.stamps[row, 0]:
            return f"the size of {printable(now)} has changed"
    return f"there were {len(pack):,} images, and there are {len(what.names):,}"


def _rewritten(pack: Pack, what: Packable) -> str | None:
    """The first file that was written after it was packed, and has another content; None if none."""
    for row in np.flatnonzero(pack.index["time"] != what.files.stamps[:, 1]).tolist():
        if content_digest(what.files.paths[row]) != int(pack.index["digest"][row]):
            return what.names[row]
    return None
