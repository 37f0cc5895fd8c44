"""Random changes of a file: of its values, or of its bytes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import yaml


def _deep(depth: int) -> Any:
    node: Any = 1
    for _ in range(depth):
        node = [node]
    return node


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3.5, -0.0, 1e308, 10**30, -(10**400)),
    *("", "x", "0", "nan", "done", "running", "[/b]", "[red]", "\ud800", "\x00", "\x1b[2J", "é" * 3000),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [1, "x", None]),
    *(
        {"_target_": "os.system", "command": "touch hostile-code-ran"},
        ["_target_"],
        _deep(60),
    ),
)
TEXTS = (  # written as they are: odd or invalid JSON
    *("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "[" * 100_000, "[" * 2000 + "]" * 2000),
    *('{"a":' * 2000 + "1" + "}" * 2000, '"\\ud800"', '{"a": 1, "a": [2]}'),
)
CELLS = (
    "",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "x",
    "-1",
    "\x00",
    '"',
    "1,2",
    "é",
    "9" * 400,
    "=1+1",
    "True",
)
YAML_TEXTS = (
    "!!python/object/apply:os.system ['touch hostile-code-ran']\n",
    "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
    "&a [*a]\n",
    "- ? [a, b]\n  : c\n",
    "? {a: b}\n: c\n",
    "2026-11-22\n",
    "a: 2026-99-99\n",
    "---\na\n---\nb\n",
    "\t- a\n",
    "jobs: 5\ncommands: [[1, null], x]\n",
    "jobs: [[], {}, null, 5]\ncommands: {}\n",
)


def mutate(path: Path, chance: random.Random) -> None:
    """Change a file in one place or several, in a way that some program or disk might."""
    how = chance.random()
    if how < 0.25:
        _bytes(path, chance)
    elif path.suffix == ".csv":
        _cells(path, chance)
    elif path.suffix == ".yaml" and how < 0.4:
        path.write_text(chance.choice(YAML_TEXTS))
    else:
        for _ in range(chance.choice([1, 1, 2, 4])):
            with contextlib.suppress(
                ValueError, yaml.YAMLError, RecursionError
            ):  # it was changed so much that it cannot be read
                _value(path, chance)


def _bytes(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    place = chance.randrange(len(content) + 1)
    some = bytes(chance.randrange(256) for _ in range(chance.randint(1, 20)))
    change = chance.choice(["cut", "flip", "insert", "zeros", "empty", "utf-16", "bom", "twice"])
    if change == "cut":
        content = content[:place]
    elif change == "flip":
        content = content[:place] + some + content[place + len(some) :]
    elif change == "insert":
        content = content[:place] + some + content[place:]
    elif change == "zeros":  # as after a power cut
        content = content[:place] + bytes(len(content) - place)
    elif change == "empty":
        content = b""
    elif change == "utf-16":
        content = content.decode(errors="replace").encode("utf-16")
    elif change == "bom":
        content = b"\xef\xbb\xbf" + content
    else:
        content += content
    path.write_bytes(content)


def _cells(path: Path, chance: random.Random) -> None:
    rows = list(csv.reader(io.StringIO(path.read_text(errors="replace").replace("\0", ""))))
    if not rows:
        return
    row = chance.choice(rows)
    change = chance.choice(["cell", "cell", "cell", "more", "fewer", "no head", "many", "head"])
    if change == "cell" and row:
        row[chance.randrange(len(row))] = chance.choice(CELLS)
    elif change == "more":
        row.append(chance.choice(CELLS))
    elif change == "fewer" and row:
        row.pop()
    elif change == "no head":
        del rows[0]
    elif change == "many":
        rows += [chance.choice(rows)] * 3000
    elif change == "head" and rows[0]:
        rows[0][chance.randrange(len(rows[0]))] = chance.choice(rows[0])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_bytes(text.getvalue().encode(errors="surrogatepass"))


def _value(path: Path, chance: random.Random) -> None:
    text = path.read_text(encoding="utf-8")
    is_json = path.suffix == ".json"
    content = json.loads(text) if is_json else yaml.safe_load(text)
    holder = {"": content}
    places = _places(holder)
    if chance.random() < 0.5:  # most keys that are read are at the top
        places = [(node, key) for node, key in places if node is content] or places
    node, key = chance.choice(places)
    value = chance.choice(VALUES)
    change = chance.choice(["set", "set", "set", "delete", "rename", "text"])
    if change == "set" or key == "":
        node[key] = value
    elif change == "delete":
        del node[key]
    elif change == "rename" and isinstance(node, dict):
        node[chance.choice(["", "x", "\ud800", "_target_", "9", "state"])] = node.pop(key)
    else:
        node[key] = "THE TEXT"
    written = json.dumps(holder[""]) if is_json else yaml.safe_dump(holder[""], sort_keys=False)
    text = chance.choice(TEXTS)
    written = written.replace('"THE TEXT"', text).replace("THE TEXT", text)
    path.write_bytes(written.encode(errors="surrogatepass"))


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Every value below a node, as the mapping or list that holds it, and its key there."""
    found: list[tuple[Any, Any]] = []
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        found.append((node, key))
        found += _places(node[key])
    return found
