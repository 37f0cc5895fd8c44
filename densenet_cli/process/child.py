"""Python processes that import what their parent imports, whatever lies in the working folder.

`python -m` and `python -c` search the working folder first, so that a user's random.py would be run in
the place of Python's own. So this file is started instead, as a script, and begins by searching what
its parent searches. Lightning starts the further processes of a run by typing the first one's command
again; that is this script too.
"""

from __future__ import annotations

import os
import sys

PATH = "DENSENET_CLI_PATH"  # the environment variable that passes the path on


def command(function: str, *words: str) -> list[str]:
    """What to type for a function of ours, named as "module:function", to be called with words."""
    return [sys.executable, os.path.abspath(__file__), function, *words]


def environment() -> dict[str, str]:
    """The environment of such a process."""
    return {**os.environ, PATH: os.pathsep.join(map(os.path.abspath, sys.path))}


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the script's folder
    sys.path += [path for path in os.environ[PATH].split(os.pathsep) if path not in sys.path]
    import importlib

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, os.path.dirname(package))
    importlib.import_module("densenet_cli")  # the same copy of it as the parent's
    del sys.path[0]
    name, _, called = sys.argv[1].partition(":")
    getattr(importlib.import_module(name), called)(sys.argv[2:])
