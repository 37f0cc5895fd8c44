"""Random changes of a file: of its values, if they can be read, or of its bytes."""

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
TEXTS = (  # as they stand in a file: odd JSON, or none
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


def mutate(path: Path, random_numbers: random.Random) -> None:
    """Change a file in one place or several, in a way that some program or disk might."""
    how = random_numbers.random()
    if how < 0.25:
        _bytes(path, random_numbers)
    elif path.suffix == ".csv":
        _cells(path, random_numbers)
    elif path.suffix == ".yaml" and how < 0.4:
        path.write_text(random_numbers.choice(YAML_TEXTS))
    else:
        for _ in range(random_numbers.choice([1, 1, 2, 4])):
            with contextlib.suppress(
                ValueError, yaml.YAMLError, RecursionError
            ):  # changed beyond reading
                _value(path, random_numbers)


def _bytes(path: Path, random_numbers: random.Random) -> None:
    content = path.read_bytes()
    place = random_numbers.randrange(len(content) + 1)
    some = bytes(random_numbers.randrange(256) for _ in range(random_numbers.randint(1, 20)))
    change = random_numbers.choice(
        ["cut", "flip", "insert", "zeros", "empty", "utf-16", "bom", "twice"]
    )
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


def _cells(path: Path, random_numbers: random.Random) -> None:
    rows = list(csv.reader(io.StringIO(path.read_text(errors="replace").replace("\0", ""))))
    if not rows:
        return
    row = random_numbers.choice(rows)
    change = random_numbers.choice(["cell", "cell", "cell", "more", "fewer", "no head", "many", "head"])
    if change == "cell" and row:
        row[random_numbers.randrange(len(row))] = random_numbers.choice(CELLS)
    elif change == "more":
        row.append(random_numbers.choice(CELLS))
    elif change == "fewer" and row:
        row.pop()
    elif change == "no head":
        del rows[0]
    elif change == "many":
        rows += [random_numbers.choice(rows)] * 3000
    elif change == "head" and rows[0]:
        rows[0][random_numbers.randrange(len(rows[0]))] = random_numbers.choice(rows[0])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_bytes(text.getvalue().encode(errors="surrogatepass"))


def _value(path: Path, random_numbers: random.Random) -> None:
    text = path.read_text(encoding="utf-8")
    is_json = path.suffix == ".json"
    content = json.loads(text) if is_json else yaml.safe_load(text)
    holder = {"": content}
    places = _places(holder)
    if random_numbers.random() < 0.5:  # what is read most often does not lie deep
        places = [(node, key) for node, key in places if node is content] or places
    node, key = random_numbers.choice(places)
    value = random_numbers.choice(VALUES)
    change = random_numbers.choice(["set", "set", "set", "delete", "rename", "text"])
    if change == "set" or key == "":
        node[key] = value
    elif change == "delete":
        del node[key]
    elif change == "rename" and isinstance(node, dict):
        node[random_numbers.choice(["", "x", "\ud800", "_target_", "9", "state"])] = node.pop(key)
    else:
        node[key] = "THE TEXT"
    written = json.dumps(holder[""]) if is_json else yaml.safe_dump(holder[""], sort_keys=False)
    text = random_numbers.choice(TEXTS)
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
