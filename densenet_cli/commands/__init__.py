"""The three commands as they are installed: each begins before it loads anything that takes time."""

from __future__ import annotations

from densenet_cli.process.start import begin


def densenet_run() -> None:
    """Train and test networks."""
    begin("densenet-run")
    from densenet_cli.commands.run import main

    main()


def densenet_results() -> None:
    """Show what was trained."""
    begin("densenet-results")
    from densenet_cli.commands.results import main

    main()


def densenet_model() -> None:
    """Look at networks, and use them."""
    begin("densenet-model")
    from densenet_cli.commands.model import main

    main()
