"""Imports matplotlib without its user's settings; import this module before all that need matplotlib.

On import, matplotlib reads a file named matplotlibrc from the working folder, from the home folder or
from where MATPLOTLIBRC says, and the name of a backend from MPLBACKEND. Some of these settings, such as
an unknown backend, cannot be undone later.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

SETTINGS = {"MATPLOTLIBRC": os.devnull, "MPLBACKEND": "agg"}


@contextlib.contextmanager
def _without_settings() -> Iterator[None]:
    """Within this context matplotlib finds no settings in the working folder or the environment."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    here = os.open(".", os.O_RDONLY)  # by descriptor, since it may have been deleted
    os.environ.update(SETTINGS)
    os.chdir(os.path.dirname(os.__file__))  # Python's library, which has no matplotlibrc
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


with _without_settings():
    import matplotlib  # noqa: F401
