"""Loads pretrained weights into a network: all tensors must fit, none may be missing or left over."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from densenet_cli.files.tensor_file import (
    AVERAGES,
    UnreadableTensors,
    find_weights,
    read_tensors,
    rename_weights,
)
from densenet_cli.models.first_convolution import first_convolution, grey
from densenet_cli.options import OptionError, UserError, not_installed
from densenet_cli.plain_text import first_line

log = logging.getLogger(__name__)

# In the released weights of DenseNets the modules of layers are called norm.1, conv.2 and so on.
OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
LIBRARIES = ("torchvision", "timm")


def load_pretrained(
    network: nn.Module, weights: str, name: str | None = None, classes: Sequence[str] | None = None
) -> list[str]:
    """Load weights into a network.

    Args:
        network: its classifier keeps its new weights if the file is for other classes. If it reads grey
            levels and the file's network reads colours, the weights of the colours are added.
        weights: a file of torch.save or safetensors, or a checkpoint of densenet-run; or "torchvision"
            or "timm", whose weights are downloaded.
        name: the network's name in torchvision or timm.
        classes: of the network, compared with those in a checkpoint of densenet-run. None: unknown.

    Returns:
        The names of parameters that keep their new values: none, or those of the classifier.

    Raises:
        UserError: if the weights cannot be downloaded or read, or are those of another network. No code
            in a file is run.
    """
    theirs: Sequence[str] | None = None
    if weights in LIBRARIES:
        found = _fetched(weights, name)
    else:
        found, theirs = _read(Path(os.path.expanduser(weights)))
    own = network.state_dict()
    try:
        found = rename_weights({OLD_NAME.sub(r"\1", key): tensor for key, tensor in found.items()}, own)
    except UnreadableTensors as error:
        raise UserError(f"pretrained.weights={weights}: {error}") from error
    for key in own.keys() - found.keys():
        if key.endswith("num_batches_tracked"):  # missing before PyTorch 0.4.1; it has no effect
            found[key] = own[key]
    _make_grey(network, own, found, weights)
    are_others = None not in (classes, theirs) and list(classes or ()) != list(theirs or ())
    kept = _of_other_classes(network, own, found, are_others)
    _compare(weights, own, found, kept)
    network.load_state_dict(found | {key: own[key] for key in kept})
    return kept


def classifier(network: nn.Module) -> tuple[str, nn.Linear]:
    """The name of a network's last linear layer, and the layer. Raises UserError if it has none."""
    linear = [
        (name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)
    ]
    if not linear:
        raise UserError("this network has no linear layer that could be its classifier")
    return linear[-1]


def _make_grey(
    network: nn.Module, own: dict[str, Tensor], found: dict[str, Tensor], weights: str
) -> None:
    """Add the weights of the colours in `found`, if the network reads grey levels: see `grey`."""
    if (first := first_convolution(network)) is None:
        return
    key = f"{first[0]}.weight"
    if own[key].shape[1] == 1 and key in found and found[key].shape[1:2] == (3,):
        found[key] = grey(found[key])
        log.info("pretrained.weights=%s: %s: colours are added, for grey images", weights, key)


def _classifiers(network: nn.Module) -> list[str]:
    """The names of the last linear layers of a network and of the modules in its list `auxiliary`."""
    auxiliary = getattr(network, "auxiliary", None)
    modules = list(auxiliary) if isinstance(auxiliary, nn.ModuleList) else []
    theirs = [f"auxiliary.{index}.{classifier(one)[0]}" for index, one in enumerate(modules)]
    return [classifier(network)[0], *theirs]


def _of_other_classes(
    network: nn.Module, own: dict[str, Tensor], found: dict[str, Tensor], are_others: bool
) -> list[str]:
    """The names of the classifiers' parameters if the weights are for other classes, else none.

    They are if the classes are known to differ, or if their number does.
    """
    names = _classifiers(network)
    keys = [key for key in own if key.rpartition(".")[0] in names]
    others = [key for key in keys if key in found and found[key].shape != own[key].shape]
    same_inputs = all(found[key].shape[1:] == own[key].shape[1:] for key in others)
    return keys if (others or are_others) and same_inputs else []


def _compare(weights: str, own: dict[str, Tensor], found: dict[str, Tensor], kept: list[str]) -> None:
    faults = [f"{key} is missing there" for key in own if key not in found]
    faults += [f"{key} is not in the network" for key in found if key not in own]
    faults += [
        f"{key} is {tuple(found[key].shape)} there and {tuple(tensor.shape)} in the network"
        for key, tensor in own.items()
        if key in found and key not in kept and found[key].shape != tensor.shape
    ]
    if faults:
        raise UserError(
            f"pretrained.weights={weights}: these are weights of another network than model=...: "
            f"{len(faults)} tensors differ; {faults[0]}"
        )


def _read(path: Path) -> tuple[dict[str, Tensor], Sequence[str] | None]:
    """The weights in a file, and their classes if the file has them."""
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "there is no such file"
        rule = f"{what}; it may also be {' or '.join(LIBRARIES)}"
        raise OptionError("weights", path, rule, "densenet121.pth").within("pretrained")
    try:
        content = _of_safetensors(path) if path.suffix == ".safetensors" else read_tensors(path)
    except UnreadableTensors as error:
        raise UserError(f"pretrained.weights={path}: cannot be read: {error}") from error
    classes = _classes(content)
    if (found := find_weights(content)) is None:
        raise UserError(
            f"pretrained.weights={path}: contains no weights (a state_dict of tensors by name)"
        )
    weights, place = found
    if place in AVERAGES:
        log.info("pretrained.weights=%s: the averaged weights in it, %s, are used", path, place)
    return weights, classes


def _classes(content: Any) -> Sequence[str] | None:
    """The classes that a checkpoint of densenet-run was trained on; None for other files."""
    facts = content.get("trained_on") if isinstance(content, dict) else None
    return facts.get("class_names") if isinstance(facts, dict) else None


def _of_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise not_installed(f"pretrained.weights={path}", "safetensors", extra="export") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UnreadableTensors(str(error)) from error


def _fetched(library: str, name: str | None) -> dict[str, Tensor]:
    if name is None:
        raise UserError(
            f"pretrained.weights={library}: {library} has no weights for this network; type a file"
        )
    try:
        return {"torchvision": _of_torchvision, "timm": _of_timm}[library](name)
    except (URLError, OSError, RuntimeError) as error:
        reason = first_line(getattr(error, "reason", error))
        raise UserError(
            f"pretrained.weights={library}: the weights of {name} cannot be downloaded: {reason}; "
            "download the file elsewhere and type pretrained.weights=FILE"
        ) from error


def _of_torchvision(name: str) -> dict[str, Any]:
    from torchvision import models

    weights = models.get_model_weights(name)["IMAGENET1K_V1"]  # trained as in the papers
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    with _where_it_can_be_kept(folder, weights.url.rpartition("/")[2]) as place:
        return weights.get_state_dict(progress=False, model_dir=str(place))


def _of_timm(name: str) -> dict[str, Any]:
    try:
        import timm
    except ImportError as error:
        raise not_installed("pretrained.weights=timm", "timm", extra="timm") from error
    from huggingface_hub.constants import HF_HUB_CACHE

    with _where_it_can_be_kept(Path(HF_HUB_CACHE), "") as place:
        return timm.create_model(name, pretrained=True, cache_dir=place).state_dict()


@contextlib.contextmanager
def _where_it_can_be_kept(folder: Path, name: str) -> Iterator[Path]:
    """A library's download folder if it has the file or can be written, else a temporary folder."""
    has_home = folder.parts[0] != "~"  # the libraries leave ~ in the path of a user without a home
    if has_home and ((name and (folder / name).exists()) or _can_be_written(folder)):
        yield folder
        return
    log.warning("%s cannot be written: the weights will be downloaded again the next time", folder)
    with tempfile.TemporaryDirectory(prefix="densenet-cli-") as place:
        yield Path(place)


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
