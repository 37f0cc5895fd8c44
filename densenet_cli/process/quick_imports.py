"""Loads torch and Lightning without what they import just in case."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from densenet_cli.options import UserError
from densenet_cli.process.start import too_little_memory

UNUSED = ("scipy", "matplotlib", "torchvision")  # of torchmetrics' plots, image and sound metrics


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Within, torch and Lightning are imported for the first time, in under two thirds of the time.

    The garbage collector rests meanwhile, since modules are no garbage, and passes them over ever
    after. torchmetrics, which Lightning imports, is told that the packages of `UNUSED` are missing;
    whoever imports them himself gets them as ever.

    Raises:
        UserError: if there is too little memory to load them.
    """
    if "torch" in sys.modules:
        yield
        return
    enabled = gc.isenabled()
    gc.disable()
    try:
        with _unused_hidden():
            yield
        gc.freeze()
    except Exception as error:
        message = too_little_memory(error)
        if message is None:
            raise
        raise UserError(message) from error
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _unused_hidden() -> Iterator[None]:
    """Within, lightning_utilities, whom torchmetrics asks, finds no unused package."""
    from lightning_utilities.core import imports

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in UNUSED else importlib.util.find_spec(name, package)

    def version(name: str) -> str:
        if name in UNUSED:
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    before = dict(vars(imports))
    vars(imports).update(find_spec=find_spec, _version=version)
    try:
        yield
    finally:
        vars(imports).update(before)
        for cached in (imports.package_available, imports.module_available):
            cached.cache_clear()
