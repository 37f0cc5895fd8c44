"""Starts Python processes that import the same modules as their parent.

`python -m` and `python -c` search the working folder first, so that a file random.py there would
replace Python's own module. Therefore this file is started as a script, which takes over its parent's
search path. Lightning starts the further processes of a run by the command of the first one, which is
this script too.
"""

from __future__ import annotations

import os
import sys

PATH = "DENSENET_CLI_PATH"  # the environment variable that holds the parent's search path


def command(function: str, *words: str) -> list[str]:
    """The command line that calls a function, named as "module:function", with a list of words."""
    return [sys.executable, os.path.abspath(__file__), function, *words]


def environment() -> dict[str, str]:
    """The environment that such a process needs."""
    return {**os.environ, PATH: os.pathsep.join(map(os.path.abspath, sys.path))}


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the script's folder
    sys.path += [path for path in os.environ[PATH].split(os.pathsep) if path not in sys.path]
    import importlib

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, os.path.dirname(package))
    importlib.import_module("densenet_cli")  # the same copy as in the parent
    del sys.path[0]
    name, _, called = sys.argv[1].partition(":")
    getattr(importlib.import_module(name), called)(sys.argv[2:])
