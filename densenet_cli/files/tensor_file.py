"""Files of torch.save and the weights in them: read as plain data, so that no code in them is run."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densenet_cli.plain_text import first_line

# Keys under which training programs save the weights. Averaged weights (EMA) come first, since the
# programs evaluate these.
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WEIGHT_KEYS = (*AVERAGES, "state_dict", "model_state_dict", "model_state", "model", "network", "net")
# Prefixes that torch.compile, DataParallel and wrapping modules add to the names of parameters.
PREFIXES = ("_orig_mod.", "module.", "network.", "model.", "net.")


class UnreadableTensors(ValueError):
    """The reason why a file cannot be read, in a few words."""


def read_tensors(path: Path) -> Any:
    """The content of a file of torch.save, with its tensors on the CPU.

    Raises:
        UnreadableTensors: if the file is damaged, or contains more than tensors and plain data.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # holds only options
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableTensors("it is damaged, or contains more than plain data") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UnreadableTensors(first_line(error)) from error


def find_weights(content: Any, depth: int = 3) -> tuple[dict[str, Tensor], str] | None:
    """The weights in a file's content.

    Args:
        content: what `read_tensors` returned.
        depth: how many levels of nested dictionaries to search.

    Returns:
        The weights by name, and the key under which they were found, such as "model" or "state.model";
        the key is empty if the content consists of weights only. None if there are no weights.
    """
    if not isinstance(content, Mapping) or not content or depth < 0:
        return None
    if all(isinstance(name, str) and isinstance(one, Tensor) for name, one in content.items()):
        return dict(content), ""
    for key in WEIGHT_KEYS:
        if (found := find_weights(content.get(key), depth - 1)) is not None:
            return found[0], f"{key}.{found[1]}".rstrip(".")
    return None


def rename_weights(weights: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """The weights under a network's own parameter names.

    Args:
        weights: by their names in a file, which may have prefixes.
        own: the network's names; a weight that matches none of them only loses its prefixes.

    Raises:
        UnreadableTensors: if two weights would get the same name.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name = _own_name(key, own)
        if name in found:
            raise UnreadableTensors(f"two of its tensors are named {name}")
        found[name] = tensor
    if "n_averaged" not in own:  # the counter of torch's AveragedModel
        found.pop("n_averaged", None)
    return found


def _own_name(key: str, own: Collection[str]) -> str:
    if key in own:
        return key
    name = key.replace("_orig_mod.", "")  # parts of a network may be compiled, too
    while name not in own and (prefix := next(filter(name.startswith, PREFIXES), None)):
        name = name.removeprefix(prefix)
    return name
