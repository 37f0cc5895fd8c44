"""Where files lie that can be made again at any time; nothing may depend on having such a place."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """The user's folder for one kind of file; None for a user without a home folder.

    It is not made here, and writing there may fail: a home can be read-only, or full. Whoever keeps
    files there must then do without.

    Args:
        name: of the kind, as "kernels".
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "densenet-cli" / name
    except RuntimeError:  # neither $HOME nor an entry in the list of users
        return None
