"""Data flows one way: who may import whom."""

import ast
from pathlib import Path

import densenet_cli

PACKAGE = Path(densenet_cli.__file__).parent
ANYWHERE = {"options", "plain_text", "whole_file", "duration", "cache"}
ANYWHERE |= {"streams", "stop_signals", "child", "begin"}  # how processes start and end
MAY_IMPORT = {  # room -> rooms
    "kernels": set(),
    "models": {"kernels", "tensor_file"},
    "data": set(),
    "training": {"tensor_file"},
    "options": set(),
    "whole_file": set(),
    "cache": set(),
    "tensor_file": set(),
    "duration": set(),
    "streams": set(),
    "child": set(),
    "begin": set(),
    "commands": {"cli", "model_cli", "results"},
    "stop_signals": set(),
    "hold": set(),
    "plain_file": set(),
    "plain_text": set(),
    "schema": set(),
    "sweep_file": {"plain_file", "schema"},
    "record": {"identity", "plain_file", "schema"},
    "run_log": {"hold", "launch"},
    "identity": set(),
    "summary": set(),
    "trained_on": {"record"},
    "complaint": {"known_keys"},
    "instantiation": set(),
    "launch": set(),
    "quick_imports": set(),
    "resolvers": {"launch"},
    "trust": {"schema"},
    "known_keys": {"identity", "schema"},
    "compose": {"known_keys", "schema", "record", "trust"},
    "recipe": {"instantiation", "training"},
    "assembly": {"launch", "data", "training", "instantiation", "models", "recipe"},
    "run": {
        *("launch", "summary", "assembly", "hold", "identity", "models", "record", "run_log"),
        *("trained_on", "training", "trust"),
    },
    "worker": {"launch", "quick_imports", "run"},
    "workers": {"hold", "identity", "launch", "record"},
    "sweep": {
        *("complaint", "compose", "hold", "identity", "instantiation", "launch", "record"),
        *("plain_file", "quick_imports", "resolvers", "summary", "sweep_file", "trained_on", "trust"),
        *("known_keys", "workers"),
        *("assembly", "models", "training"),  # to measure a cost only
    },
    "cli": {
        *("launch", "resolvers", "complaint", "compose", "hold", "record", "run", "workers", "sweep"),
        *("known_keys", "quick_imports", "trust"),
    },
    "inference": {
        *("compose", "data", "instantiation", "models", "record", "resolvers", "results"),
        *("trained_on", "training", "trust"),
    },
    "analysis": {
        *("compose", "data", "inference", "instantiation", "models", "resolvers", "results"),
        "trust",
        "sweep",  # what lines of options stand for
    },
    "model_cli": {"analysis", "complaint", "inference", "launch", "quick_imports", "trust"},
    "results": {
        *("duration", "hold", "identity", "plain_file", "record", "schema", "sweep_file"),
        "trained_on",
    },
}


def _rooms_imported(path):
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("densenet_cli.")}
    return rooms


def test_rooms_import_only_what_lies_before_them():
    seen = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in ("__init__", "conf"):
            continue
        seen.add(room)
        forbidden = _rooms_imported(path) - MAY_IMPORT[room] - ANYWHERE - {room}
        assert not forbidden, f"{path.relative_to(PACKAGE)} imports {forbidden}"
    assert seen == MAY_IMPORT.keys()


def test_no_room_is_called_by_a_word_for_anything():
    words = {"utils", "util", "common", "misc", "helpers", "helper"}
    assert not words & {path.stem for path in PACKAGE.rglob("*")}
