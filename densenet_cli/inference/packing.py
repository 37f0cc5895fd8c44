"""What `densenet-model pack` does: it packs photos, and prints what is in the pack."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from densenet_cli.config.build import build, naming
from densenet_cli.config.overrides import key
from densenet_cli.data.pack import Pack, Packing
from densenet_cli.data.packed_photos import open_or_make
from densenet_cli.data.photo import MAX_PIXELS
from densenet_cli.data.photo_data import PhotoData
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import printable
from densenet_cli.units import memory

FOLDER = "densenet_cli.data.image_folder.ImageFolder"
TABLE = "densenet_cli.data.image_table.ImageTable"
# The options of data=image_folder and data=image_table, as this command calls them.
TYPED = {
    **dict.fromkeys(("data.root", "data.table"), "PHOTOS"),
    "data.pack": "--output",
    "data.pack_size": "--size",
    "data.pack_quality": "--quality",
}
IN_TEXTS = {"data.skip_broken=true": "--skip-broken", "data.max_pixels=": "--max-pixels "}


def pack(
    photos: Path,
    overrides: Sequence[str],
    packing: Packing,
    output: str | Path,
    max_pixels: int | None,
    skip_broken: bool = False,
) -> Pack:
    """The pack of a folder, which is made or completed unless it is there.

    Args:
        photos: the folder, with a folder for each class, see ImageFolder; or a table, see ImageTable.
        overrides: further options of these, as data.images=xrays.
        packing: how images are packed.
        output: NAME.pack, or another folder in which the pack is.
        max_pixels: larger images are refused; None: the same limit as in training.
        skip_broken: whether images that cannot be read, or are too large, are left out with a warning.

    Raises:
        UserError: for a wrong override; as packed_photos.open_or_make.
    """
    options: dict[str, Any] = {
        **_options(overrides),
        **({"_target_": TABLE, "table": str(photos)} if photos.is_file() else {}),
        **({} if photos.is_file() else {"_target_": FOLDER, "root": str(photos)}),
        "max_pixels": max_pixels or MAX_PIXELS,
        "skip_broken": skip_broken,
        "pack": str(output),
        "pack_size": packing.size,
        "pack_quality": packing.quality,
    }
    try:
        data: PhotoData = build("data", options)
        assert data.pack_options is not None
        with naming("data"), data.root_as_typed():
            return open_or_make(data.pack_options, data.packable(), data.max_pixels, skip_broken)
    except OptionError as error:
        name = TYPED.get(error.key, error.key)
        raise OptionError(name, error.value, error.rule, error.example) from error
    except UserError as error:
        text = str(error)
        for of_run, ours in IN_TEXTS.items():
            text = text.replace(of_run, ours)
        raise UserError(text) from error


def _options(overrides: Sequence[str]) -> dict[str, Any]:
    """What overrides say. Raises UserError if one is no option of a data set."""
    for one in overrides:
        if not key(one).startswith("data.") or "=" not in one:
            raise UserError(f"{one}: must be an option of the images, as data.images=xrays")
    plain: Any = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    return plain.get("data", {})


def show(made: Pack, photos: Path, overrides: Sequence[str]) -> None:
    """Print what is in a pack, and how to train on it; `photos` and `overrides` as for `pack`."""
    told = document(made)
    size = "whole" if told["size"] is None else f"shorter side {told['size']} at most"
    kind = "files" if told["size"] is None else f"JPEG {told['quality']}"
    kind = "pixels" if told["quality"] == "raw" else kind
    broken = f" ({told['broken']:,} left out: broken)" if told["broken"] else ""
    images = f"{told['images']:,} images{broken}"
    print(f"{printable(str(made.folder))}: {images}, {size}, {kind}; {memory(told['bytes'])}")
    words = ["data=image_folder", f"data.root={made.folder}"]
    if made.facts["splits"] is None:  # the labels are in the table only
        words = ["data=image_table", f"data.table={photos}", *overrides, f"data.pack={made.folder}"]
        if told["size"] != Packing.size:
            words.append(f"data.pack_size={'null' if told['size'] is None else told['size']}")
        if told["quality"] != Packing.quality:
            words.append(f"data.pack_quality={told['quality']}")
    if told["broken"]:
        words.append("data.skip_broken=true")
    print(f"\nNext:\n  densenet-run {printable(shlex.join(words))}")


def document(made: Pack) -> dict[str, Any]:
    """What is in a pack, for JSON."""
    return {
        "pack": str(made.folder),
        "images": len(made),
        "broken": len(made.facts["broken"]),
        "bytes": sum(path.stat().st_size for path in made.folder.iterdir()),
        "size": made.packing.size,
        "quality": made.packing.quality,
        "classes": len(made.facts["classes"]),
        "splits": made.facts["splits"],
    }
