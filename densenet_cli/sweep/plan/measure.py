"""A process that makes a short run: it loads torch quickly."""

from __future__ import annotations

from densenet_cli.process.quick_imports import quick_imports


def main(words: list[str]) -> None:
    """Make the short run that a folder describes; see `short_run.main`."""
    with quick_imports():  # also without matplotlib, which its user's settings can break
        from densenet_cli.sweep.plan import short_run
    short_run.main(words)
