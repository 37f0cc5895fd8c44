"""`densenet-model saliency`: Grad-CAM and occlusion maps of several networks for the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.runs import Analysis
from densenet_cli.analysis.saliency import figure, saliency_maps
from densenet_cli.analysis.saliency.saliency_maps import Images, Saliency
from densenet_cli.inference.image_batches import Unreadable
from densenet_cli.options import OptionError, UserError

ROWS = 40  # images on a figure, at most


def saliency(
    analysis: Analysis,
    paths: Sequence[str],
    class_name: str | None,
    layers: Sequence[str],
    patch: int | None,
) -> list[Unreadable]:
    """Draw the saliency maps of each network for the same images, all on one figure.

    Args:
        analysis: the runs, the test images, and where the figure goes.
        paths: image files; if empty, test images.
        class_name: the class whose evidence is shown; None: the class that each network predicts.
        layers: modules whose maps Grad-CAM uses, one for each run or one for all; if empty, the last.
        patch: side of the occluding square in pixels; None: a quarter of the images' side.

    Returns:
        The files that cannot be read.

    Raises:
        UserError: there are too many images for a figure, none can be read, or the networks have
            different test images; an option breaks a rule of `saliency_maps.saliency`.
    """
    number = len(paths) or analysis.images
    if number > ROWS:
        option = "--pictures" if paths else "--images"
        raise UserError(f"{option}: {number} images: at most {ROWS} fit on a figure; name fewer")
    shown: list[Images] = []
    found: dict[NetworkLabel, Saliency] = {}
    unreadable: list[Unreadable] = []
    layer_of_each = _for_each_run(analysis, layers)
    for (network, trained), layer in zip(analysis.networks(), layer_of_each, strict=True):
        if paths:
            images, unreadable = saliency_maps.from_files(trained, paths)
        else:
            images = saliency_maps.from_batches(
                trained, analysis.test_images(trained, several_labels=True)
            )
        shown.append(images)
        try:
            found[network] = saliency_maps.saliency(trained, images.inputs, class_name, layer, patch)
        except UserError as error:
            raise UserError(f"{network.title}: {error}") from error
    if not paths:
        _check_same_images(found)
    analysis.output.write("saliency", figure.draw(shown[0], found))
    analysis.output.finish([{"network": network.title} for network in found])
    return unreadable


def _for_each_run(analysis: Analysis, layers: Sequence[str]) -> Sequence[str | None]:
    runs = len(analysis.runs)
    if len(layers) > 1 and len(layers) != runs:
        rule = f"must be one module, or one for each of the {runs} runs"
        raise OptionError("--layer", " ".join(layers), rule)
    return layers if len(layers) > 1 else [layers[0] if layers else None] * runs


def _check_same_images(found: Mapping[NetworkLabel, Saliency]) -> None:
    (first, own), *others = found.items()
    for network, other in others:
        same_shape = own.pixels.shape == other.pixels.shape
        if not same_shape or not torch.allclose(own.pixels, other.pixels, atol=1e-3):
            raise UserError(
                f"{network.title} and {first.title} have different test images; name image files for "
                "both, as --pictures photos/"
            )
