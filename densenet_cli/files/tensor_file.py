"""Files of torch.save, read as plain data, and the weights in them: no code of a file is ever run."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densenet_cli.plain_text import first_line

# Where training programs put the weights, averages (EMA) first, by which they too are judged.
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
PLACES = (*AVERAGES, "state_dict", "model_state_dict", "model_state", "model", "network", "net")
# What torch.compile, DataParallel and modules around a network put before its names.
PREFIXES = ("_orig_mod.", "module.", "network.", "model.", "net.")


class UnreadableTensors(ValueError):
    """Says why a file cannot be read, in a few words."""


def read_tensors(path: Path) -> Any:
    """What a file of torch.save holds, its tensors on the CPU.

    Raises:
        UnreadableTensors: the file is damaged, or holds more than tensors and plain data.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # a plain record of options
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableTensors("it is damaged, or holds more than plain data") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UnreadableTensors(first_line(error)) from error


def weights_in(content: Any, depth: int = 3) -> tuple[dict[str, Tensor], str] | None:
    """The weights by name in what a file holds, and where they stand in it, as "model".

    Args:
        content: of a file.
        depth: so many places may lie in one another.

    Returns:
        None if there are none. The place is empty if the file holds nothing else.
    """
    if not isinstance(content, Mapping) or not content or depth < 0:
        return None
    if all(isinstance(name, str) and isinstance(one, Tensor) for name, one in content.items()):
        return dict(content), ""
    for place in PLACES:
        if (found := weights_in(content.get(place), depth - 1)) is not None:
            return found[0], f"{place}.{found[1]}".rstrip(".")
    return None


def renamed(weights: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Weights by the names that a network has for them.

    Args:
        weights: by their names in a file, perhaps with prefixes.
        own: the network's names; what is called by none of them keeps its name without prefixes.

    Raises:
        UnreadableTensors: two of the weights would have one name.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name = _own_name(key, own)
        if name in found:
            raise UnreadableTensors(f"two of its tensors are {name}")
        found[name] = tensor
    if "n_averaged" not in own:  # torch's AveragedModel counts in it
        found.pop("n_averaged", None)
    return found


def _own_name(key: str, own: Collection[str]) -> str:
    if key in own:
        return key
    name = key.replace("_orig_mod.", "")  # also where parts of a network were compiled
    while name not in own and (prefix := next(filter(name.startswith, PREFIXES), None)):
        name = name.removeprefix(prefix)
    return name
