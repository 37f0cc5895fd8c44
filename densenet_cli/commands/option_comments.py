"""What the configuration files say about each option, in the comments at the ends of their lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

INDENT = "  "
COMMENT_COLUMN = 42


def commented(document: str, comments: Mapping[str, str], width: int) -> str:
    """A YAML document, indented, with the comment of each option behind it.

    Args:
        document: YAML without comments.
        comments: of each option, by its full name (`model.growth_rate`).
        width: in columns; longer comments continue below themselves.
    """
    names = {line: name for name, line, _ in _keys(document)}
    found = []
    for number, line in enumerate(document.splitlines()):
        comment = comments.get(names.get(number, ""), "")
        start = f"{INDENT}{line}".ljust(COMMENT_COLUMN - 1)
        indent = " " * COMMENT_COLUMN
        found += textwrap.wrap(
            f"{start} # {comment}" if comment else start.rstrip(),
            width if comment else len(start),
            subsequent_indent=f"{indent}# ",
            drop_whitespace=True,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(found) + "\n"


def comments(folders: Sequence[Path], choices: Mapping[str, str | None]) -> dict[str, str]:
    """The comment of each option, by its full name.

    Args:
        folders: with configuration files; the first has config.yaml.
        choices: what is chosen of each group, as {"model": "densenet_bc_100"}.
    """
    found = {name: text for name, _, text in _keys((folders[0] / "config.yaml").read_text("utf-8"))}
    for group, choice in choices.items():
        for file in _files(folders, group, choice) if choice else ():
            own = _keys(file.read_text("utf-8"))
            found |= {f"{group}.{name}": text for name, _, text in own if text}
    return {name: text for name, text in found.items() if text}


def _files(folders: Sequence[Path], group: str, choice: str) -> Iterator[Path]:
    """The files of the choices that a choice is based on, and its own, which is the last."""
    for folder in folders:
        file = folder / group / f"{choice}.yaml"
        if file.is_file():
            content = yaml.safe_load(file.read_text("utf-8")) or {}
            for base in content.get("defaults", ()):
                if isinstance(base, str) and base not in ("_self_", choice):
                    yield from _files(folders, group, base)
            yield file
            return


def _keys(document: str) -> list[tuple[str, int, str]]:
    """The full name of each key, its line (from 0), and the comment on this line."""
    lines = document.splitlines()
    found = []

    def visit(node: yaml.Node | None, prefix: str) -> None:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            end = value.end_mark if value.end_mark.line == key.end_mark.line else key.end_mark
            after = lines[end.line][end.column :].lstrip(": ")
            number = key.start_mark.line
            found.append(
                (f"{prefix}{key.value}", number, after[1:].strip() if after[:1] == "#" else "")
            )
            visit(value, f"{prefix}{key.value}.")

    visit(yaml.compose(document), "")
    return found
