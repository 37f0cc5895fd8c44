"""sweep.yaml in a sweep's folder: the commands typed for it, and the folders of its jobs."""

from __future__ import annotations

from pathlib import Path

from densenet_cli.files.plain_file import UnreadableFile, read_yaml
from densenet_cli.record import schema

FILE = "sweep.yaml"


def read_sweep(folder: Path) -> tuple[list[list[str]], list[str]]:
    """The commands that were typed for a sweep's folder, and the names of its jobs' folders.

    Returns:
        Two empty lists if there is no sweep.yaml.

    Raises:
        UnreadableFile: if it cannot be read as one.
    """
    path = folder / FILE
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        return [], []
    if fault := schema.check_sweep(content):
        raise UnreadableFile(path, fault)
    return content["commands"], content["jobs"]
