"""A training run, from top to bottom: data, network, optimizer, trainer, fit, test, results.

What surrounds a run is attached from outside:
    execute.py            the lock of its folder, its log, interruptions and failures
    recording.py          its record: run.json, metrics.csv, config.yaml
    assemble.accelerate   kernels and CUDA graphs, which change its speed only
    supervisor.py         the processes it runs in
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from rich.console import Console

from densenet_cli.run import assemble, option_checks, testing, trainer_options
from densenet_cli.run.budget import Length
from densenet_cli.run.length import keep_to_length
from densenet_cli.run.parts import Run
from densenet_cli.training.checkpoints import Checkpoints
from densenet_cli.training.interruption import Interruption
from densenet_cli.training.progress import TrainingProgress
from densenet_cli.training.watchdog import Watchdog


def train(
    config: dict[str, Any],
    folder: Path,
    interruption: Interruption,
    *,
    on_ready: Callable[[Run], None],
    on_epoch: Callable[[TrainingProgress], None],
    console: Console | None = None,
    callbacks: Sequence[L.Callback] = (),
    resume_from: Path | None = None,
    length: Length | None = None,
) -> dict[str, Any]:
    """Train a network and test it; with task=test, only test it.

    Args:
        config: the resolved configuration.
        folder: where checkpoints and logs are written.
        interruption: the signals that stop training once its state is saved.
        on_ready: called once all parts are built, before training.
        on_epoch: called at the end of each epoch, in every process; its metrics are the last row.
        console: where the progress is shown; None shows nothing.
        callbacks: further callbacks of Lightning's.
        length: how long to train under a budget, if that is known already.
        resume_from: the checkpoint with which training continues; it is read as data and runs no code.

    Returns:
        The test errors and losses, as `results` in run.json holds them.

    Raises:
        UserError: for an option that cannot work, named as it was typed.
        Interrupted: when a signal has stopped the run.
    """
    option_checks.check(config)
    options = trainer_options.read(config["trainer"])
    tested = testing.checkpoint_to_test(config)
    L.seed_everything(config["seed"], verbose=False)

    data = assemble.build_data(config, tested)
    network = assemble.build_network(config, data, tested)
    classifier = assemble.build_classifier(config, network, data)  # with loss, optimizer and schedule
    assemble.accelerate(classifier, data, options)

    progress = TrainingProgress(console, options.progress_bars, data.evaluation_split, on_epoch)
    checkpoints = Checkpoints(
        folder / "checkpoints",
        f"{data.evaluation_split}/error",
        config["checkpoint_minutes"],
        interruption,
    )
    trainer = assemble.build_trainer(
        config, options, folder, [*callbacks, Watchdog(interruption), progress, checkpoints]
    )
    length = keep_to_length(config, length, data, classifier, trainer)
    option_checks.check_last_batch(config, data, network, trainer)
    run = Run(config, options.device, data, classifier, trainer, progress, checkpoints, length)
    on_ready(run)
    if config["task"] == "train":
        trainer.fit(classifier, datamodule=data, ckpt_path=resume_from, weights_only=True)
        return testing.test_last_and_best(run)
    return testing.test(run)
