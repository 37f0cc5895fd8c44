"""Loads matplotlib as if its user had no settings; to be imported before anything that needs it.

matplotlib reads a file named matplotlibrc as it is imported, from the working folder, the environment
or the home folder, and the name of a backend from MPLBACKEND; some of what they say, even an unknown
backend, cannot be undone later.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

SETTINGS = {"MATPLOTLIBRC": os.devnull, "MPLBACKEND": "agg"}


@contextlib.contextmanager
def _without_settings() -> Iterator[None]:
    """Within, the working folder and the environment hold no settings of matplotlib."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    here = os.open(".", os.O_RDONLY)  # it may have been deleted, and have no name any more
    os.environ.update(SETTINGS)
    os.chdir(os.path.dirname(os.__file__))  # Python's own folder: nothing else can be imported from it
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
