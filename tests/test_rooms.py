"""Data flows one way: who may import whom."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import densenet_cli

PACKAGE = Path(densenet_cli.__file__).parent
LOOSE = {"options", "plain_text", "units"}  # modules that every room may import
MAY_IMPORT = {  # room -> rooms
    "process": set(),
    "files": set(),
    "record": {"files"},
    "decisions": set(),
    "config": {"process", "record"},
    "models": {"files"},
    "kernels": {"files"},
    "data": {"files"},
    "training": {"files", "process"},
    "energy": set(),
    "run": {"process", "files", "record", "config", "data", "models", "kernels", "training", "energy"},
    "sweep": {
        *("process", "files", "record", "config", "run", "decisions"),
        *("models", "training"),  # to measure a cost only
    },
    "figures": {"files"},
    "results": {"files", "record", "figures", "decisions"},
    "inference": {"files", "record", "config", "data", "models", "kernels", "training", "figures"},
    "analysis": {
        *("files", "record", "config", "data", "models", "training", "inference", "figures"),
        "sweep",  # what lines of options stand for
    },
    "commands": {
        *("process", "files", "record", "config", "run", "sweep", "results", "inference", "analysis"),
        *("figures", "decisions"),
    },
}


def _names_imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _rooms_imported(path):
    ours = (name.split(".") for name in _names_imported(path) if name.startswith("densenet_cli."))
    return {name[1] for name in ours}


def test_rooms_import_only_what_lies_before_them():
    seen = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in ("__init__", "conf"):
            continue
        seen.add(room)
        forbidden = _rooms_imported(path) - MAY_IMPORT.get(room, set()) - LOOSE - {room}
        assert not forbidden, f"{path.relative_to(PACKAGE)} imports {forbidden}"
    assert seen == MAY_IMPORT.keys() | LOOSE


def test_no_imports_go_round_in_a_circle():
    names = {
        path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__") for name in names.values()}
    imported = {
        name.removesuffix(".__init__"): {
            one if one in modules else one.rpartition(".")[0] for one in _names_imported(path)
        }
        & modules
        for path, name in names.items()
    }
    assert len(list(TopologicalSorter(imported).static_order())) == len(modules)  # else a CycleError


@pytest.mark.parametrize("room", ["results", "figures", "record", "process", "decisions"])
def test_rooms_that_only_read_and_show_import_no_torch(room):
    for path in (PACKAGE / room).rglob("*.py"):
        packages = {name.partition(".")[0] for name in _names_imported(path)}
        if path.name != "load_torch.py":  # for all rooms that need torch
            assert not packages & {"torch", "torchvision", "lightning"}, path


def test_every_room_says_in_its_first_line_what_lives_there():
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_room_is_called_by_a_word_for_anything():
    words = {"utils", "util", "common", "misc", "helpers", "helper"}
    assert not words & {path.stem for path in PACKAGE.rglob("*")}


@pytest.mark.parametrize("folder", [PACKAGE, Path(__file__).parent], ids=["densenet_cli", "tests"])
def test_files_and_functions_can_be_read_at_one_sitting(folder):
    sources = [path for end in ("py", "h", "cpp") for path in folder.rglob(f"*.{end}")]
    assert len(sources) > 50
    for path in sources:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text) if path.suffix == ".py" else ast.parse("")):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
