"""Files of torch.save, read as plain data: no code of a file is ever run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch


class UnreadableTensors(ValueError):
    """Says why a file cannot be read, in a few words."""


def read_tensors(path: Path) -> Any:
    """What a file of torch.save holds, its tensors on the CPU.

    Raises:
        UnreadableTensors: the file is damaged, or holds more than tensors and plain data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableTensors("it is damaged, or holds more than plain data") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UnreadableTensors(str(error).split("\n", maxsplit=1)[0]) from error
