"""A process that makes a short run: it loads torch quickly."""

from __future__ import annotations

from densenet_cli.process.load_torch import load_lightning


def main(words: list[str]) -> None:
    """Make the short run that a folder describes; see `short_run.main`."""
    load_lightning()
    from densenet_cli.sweep.plan import short_run

    short_run.main(words)
