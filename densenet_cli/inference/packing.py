"""What `densenet-model pack` does: it packs a folder of photos, and prints what is in the pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.data.pack import Pack
from densenet_cli.data.packed_photos import open_or_make
from densenet_cli.data.photo import MAX_PIXELS
from densenet_cli.options import OptionError, UserError
from densenet_cli.plain_text import printable
from densenet_cli.units import memory

# The options of data=image_folder, as this command calls them.
TYPED = {"root": "PHOTOS", "pack": "--output", "pack_size": "--size", "pack_quality": "--quality"}
IN_TEXTS = {"data.skip_broken=true": "--skip-broken", "data.max_pixels=": "--max-pixels "}


def pack(
    photos: Path,
    size: int | None,
    quality: int | str,
    output: str | Path,
    max_pixels: int | None,
    skip_broken: bool = False,
) -> Pack:
    """The pack of a folder, which is made or completed unless it is there.

    Args:
        photos: the folder, with a folder for each class; see ImageFolder.
        size, quality: see `pack.Packing`.
        output: NAME.pack, or another folder in which the pack is.
        max_pixels: larger images are refused; None: the same limit as in training.
        skip_broken: whether images that cannot be read, or are too large, are left out with a warning.

    Raises:
        UserError: as packed_photos.open_or_make.
    """
    try:
        data = ImageFolder(
            str(photos),
            max_pixels=max_pixels or MAX_PIXELS,
            pack=str(output),
            pack_size=size,
            pack_quality=quality,
            skip_broken=skip_broken,
        )
        assert data.pack_options is not None
        with data.root_as_typed():
            return open_or_make(data.pack_options, data.packable(), data.max_pixels, skip_broken)
    except OptionError as error:
        key = TYPED.get(error.key, error.key)
        raise OptionError(key, error.value, error.rule, error.example) from error
    except UserError as error:
        text = str(error)
        for of_run, ours in IN_TEXTS.items():
            text = text.replace(of_run, ours)
        raise UserError(text) from error


def show(made: Pack) -> None:
    """Print what is in a pack, and how to train on it."""
    told, folder = document(made), printable(str(made.folder))
    size = "whole" if told["size"] is None else f"shorter side {told['size']} at most"
    kind = "files" if told["size"] is None else f"JPEG {told['quality']}"
    kind = "pixels" if told["quality"] == "raw" else kind
    broken = f" ({told['broken']:,} left out: broken)" if told["broken"] else ""
    print(f"{folder}: {told['images']:,} images{broken}, {size}, {kind}; {memory(told['bytes'])}")
    skip = " data.skip_broken=true" if told["broken"] else ""
    print(f"\nNext:\n  densenet-run data=image_folder data.root={folder}{skip}")


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
