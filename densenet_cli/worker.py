"""`python -m densenet_cli.worker JOB`: executes the run that a file describes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from densenet_cli import launch
from densenet_cli.run import execute


def main() -> None:
    """Execute the run; the exit status says how it ended."""
    if launch.is_first_process():
        launch.die_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    status = execute(Path(job["folder"]), job["config"], job["overrides"], job["resume"])
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # an orderly end might wait for processes that are no more


if __name__ == "__main__":
    main()
