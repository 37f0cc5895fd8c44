"""What several trained networks look at in the same pictures, set side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from densenet_cli.analysis.network_label import Subject
from densenet_cli.analysis.runs import Look
from densenet_cli.analysis.saliency import figure as saliency_figure
from densenet_cli.analysis.saliency import saliency_maps
from densenet_cli.analysis.saliency.saliency_maps import Saliency, Seen
from densenet_cli.inference.pictures import Unreadable
from densenet_cli.options import OptionError, UserError

ROWS = 40  # pictures on a figure, at most


def saliency(
    look: Look, paths: Sequence[str], wanted: str | None, layers: Sequence[str], patch: int | None
) -> list[Unreadable]:
    """What each network looks at in the same pictures, all on one figure.

    Args:
        look: what to look at.
        paths: of the pictures; if there are none, test images.
        wanted: the class to look for; None: in each picture what a network takes it for.
        layers: the module whose maps Grad-CAM takes, one for each run or one for all; none: the last.
        patch: side of the square that hides, in pixels; None: a quarter of the images' side.

    Returns:
        The pictures that cannot be read.

    Raises:
        UserError: there are too many pictures for a figure, none can be read, or the networks were
            tested on different ones; an option breaks a rule of `saliency_maps.saliency`.
    """
    number = len(paths) or look.images
    if number > ROWS:
        raise UserError(f"{number} pictures: at most {ROWS} fit on a figure")
    seen: list[Seen] = []
    found: dict[Subject, Saliency] = {}
    unreadable: list[Unreadable] = []
    for (subject, trained), layer in zip(look.networks(), _for_each(look, layers), strict=True):
        if paths:
            own, unreadable = saliency_maps.files(trained, paths)
        else:
            own = saliency_maps.test_images(trained, look.test_images(trained))
        seen.append(own)
        try:
            found[subject] = saliency_maps.saliency(trained, own.inputs, wanted, layer, patch)
        except UserError as error:
            raise UserError(f"{subject.title}: {error}") from error
    if not paths:
        _check_same_pictures(found)
    look.write("saliency", saliency_figure.draw(seen[0], found))
    return unreadable


def _for_each(look: Look, layers: Sequence[str]) -> Sequence[str | None]:
    if len(layers) > 1 and len(layers) != len(look.runs):
        rule = f"must be one module, or one for each of the {len(look.runs)} runs"
        raise OptionError("--layer", " ".join(layers), rule)
    return layers if len(layers) > 1 else [layers[0] if layers else None] * len(look.runs)


def _check_same_pictures(found: Mapping[Subject, Saliency]) -> None:
    (first, own), *others = found.items()
    for subject, other in others:
        alike = own.pixels.shape == other.pixels.shape
        if not alike or not torch.allclose(own.pixels, other.pixels, atol=1e-3):
            raise UserError(
                f"{subject.title} was tested on other pictures than {first.title}; name some for both, "
                "as --pictures photos/"
            )
