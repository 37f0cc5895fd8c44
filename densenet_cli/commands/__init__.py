"""The three commands: what is typed -> one call. Nothing else imports this package."""

from __future__ import annotations

from densenet_cli.process.start import begin


def densenet_run() -> None:
    """Train and test networks."""
    begin("densenet-run")
    from densenet_cli.commands.run import main

    main()


def densenet_results() -> None:
    """Show the results of runs."""
    begin("densenet-results")
    from densenet_cli.commands.results import main

    main()


def densenet_model() -> None:
    """Examine networks, and use them."""
    begin("densenet-model")
    from densenet_cli.commands.model import main

    main()
