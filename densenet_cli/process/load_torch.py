"""Loads torch and Lightning in little more than half of the time that plain imports take."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError
from typing import Any

from densenet_cli.options import UserError
from densenet_cli.process.start import too_little_memory

# torchmetrics, which Lightning imports, imports these for metrics and plots that nothing here uses.
UNUSED = ("scipy", "matplotlib", "torchvision")


def load_torch() -> None:
    """Import torch. Raises UserError if there is too little memory for it."""
    with _quickly():
        import torch  # noqa: F401


def load_lightning() -> None:
    """Import torch and Lightning, but none of `UNUSED`, which can be imported as usual afterwards.

    A broken matplotlibrc of the user's can therefore stop no run either.

    Raises:
        UserError: if there is too little memory for them.
    """
    if "lightning.pytorch" in sys.modules:
        return
    with _quickly(), _unused_hidden():
        import lightning.pytorch  # noqa: F401


@contextlib.contextmanager
def _quickly() -> Iterator[None]:
    """Import without garbage collection: modules are never garbage, and searching them takes long."""
    enabled = gc.isenabled()
    gc.disable()
    try:
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


class _Finder:
    """For sys.meta_path: tells whoever asks that some packages are not installed."""

    def __init__(self, hidden: set[str]) -> None:
        self.hidden = hidden

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Raise ModuleNotFoundError for a hidden module; leave all others to the next finder."""
        if name.partition(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

    def find_distributions(self, context: DistributionFinder.Context) -> Iterator[Distribution]:
        """Raise PackageNotFoundError for a hidden package; leave all others to the next finder."""
        if context.name in self.hidden:
            raise PackageNotFoundError(context.name)
        return iter(())


@contextlib.contextmanager
def _unused_hidden() -> Iterator[None]:
    finder = _Finder(set(UNUSED) - sys.modules.keys())  # what is loaded already cannot be hidden
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        from lightning_utilities.core import imports  # remembers the answers

        imports.package_available.cache_clear()
        imports.module_available.cache_clear()
