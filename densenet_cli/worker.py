"""`python -m densenet_cli.worker FOLDER [resume]`: executes the run that a folder describes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from densenet_cli import launch
from densenet_cli.record import read_config
from densenet_cli.run import execute


def main() -> None:
    """Execute the run; the exit status says how it ended."""
    if launch.is_first_process():
        launch.die_with_parent()
    folder = Path(sys.argv[1])
    config, overrides = read_config(folder)
    status = execute(folder, config, overrides, resume=sys.argv[2:] == ["resume"])
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # an orderly end might wait for processes that are no more


if __name__ == "__main__":
    main()
