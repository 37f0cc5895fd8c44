"""Compares a JSON document with the lines that describe its shape in --help."""

import re

from densenet_cli.commands.json_shapes import SHAPES
from densenet_cli.results.formats import RAW_NAMES

TYPES = {"text": str, "integer": int, "number": (int, float), "true or false": bool, "null": type(None)}


def check(command, document):
    """Fail unless a command's document has exactly the names and types that are described."""
    tree = {}
    for line in SHAPES[command].splitlines():
        path, kind, *_ = re.split(r"  +", line)
        for name in RAW_NAMES.values() if "NAME" in path else [""]:
            *parts, last = re.findall(r"\[\]|[^.\[\]]+", path.replace("NAME", name))
            node = tree
            for part in parts:
                node = node.setdefault(part, {})
            node[last] = kind.strip()
    _check(document, tree, command)


def _check(value, tree, path):
    if isinstance(tree, str):
        kinds = [TYPES[kind] for kind in re.split(" or (?!false)", tree) if tree != "any"]
        is_switch = isinstance(value, bool)
        assert tree == "any" or any(
            isinstance(value, kind) and is_switch == (kind is bool) for kind in kinds
        ), f"{path} is {value!r}, not {tree}"
    elif "[]" in tree:
        assert isinstance(value, list), path
        for one in value:
            _check(one, tree["[]"], f"{path}[]")
    elif "*" in tree:
        assert value is None or isinstance(value, dict), path
    else:
        assert isinstance(value, dict), path
        described = "densenet_cli/commands/json_shapes.py describes"
        assert value.keys() == tree.keys(), f"{described} {path} differently"
        for key, one in value.items():
            _check(one, tree[key], f"{path}.{key}")
