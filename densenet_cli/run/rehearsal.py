"""How many steps a budget in minutes pays for: measured by training some steps that are thrown away.

They are those of the run itself, with its kernels, graphs and processes, which are thereby ready before
the run begins. The steps are measured once: a run that is resumed finds their number in its record.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from densenet_cli.run import budget
from densenet_cli.run.budget import Length
from densenet_cli.run.length import epoch_of, trained_multiply_adds
from densenet_cli.run.parts import Run
from densenet_cli.run.train import train
from densenet_cli.training.interruption import Interruption

log = logging.getLogger(__name__)

# The last half of all steps is measured, once it has SETTLED steps and lasts ENOUGH_S, or LONG_S.
SETTLED = 8
ENOUGH_S = 5.0
LONG_S = 30.0


def measured_length(
    config: dict[str, Any], interruption: Interruption, console: Console | None
) -> Length | None:
    """How long a run trains, if its budget is in minutes and must be measured; else None.

    Args:
        config: the resolved configuration.
        interruption: the signals that stop the run.
        console: where it is said that steps are measured; None says nothing.

    Raises:
        OptionError: if the budget is too small for one epoch.
        Interrupted: when a signal has stopped the run.
    """
    chosen = budget.read(config)
    if chosen is None or chosen.unit != "min":
        return None
    steps = StepSeconds()
    text = f"budget={chosen.text}: measuring how long a step takes"
    log.info(text)
    if console is not None:
        console.print(text, highlight=False)
    with tempfile.TemporaryDirectory(prefix="densenet-cli-") as folder, _without_information():
        train(
            _without_end(config),
            Path(folder),
            interruption,
            on_ready=steps.on_ready,
            on_epoch=lambda progress: None,
            callbacks=[steps],
        )
    length = budget.length(config, chosen, steps.epoch, steps.forward, steps.seconds)
    del steps
    gc.collect()  # the trainer and its module refer to each other
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    log.info("%d steps, of %.4g s each", length.steps, length.seconds_per_step)
    return length


class StepSeconds(Callback):
    """Measures the time of a step, in all processes that of the first one, and then ends training.

    Attributes:
        epoch: the size of an epoch.
        forward: multiply-adds of a forward pass over one image in training.
        seconds: of a step with its batch.
    """

    def on_ready(self, run: Run) -> None:
        """Note the sizes."""
        self.epoch = epoch_of(run.data, run.trainer)
        self.forward = trained_multiply_adds(run.classifier.network, run.data)
        self.seconds = 0.0
        self._batches, self._lasted, self._since = 0, 0.0, time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock at the first batch of an epoch."""
        if batch_idx == 0:
            self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Time a batch; at powers of two, all processes see whether those since the last are enough."""
        self._batches += 1
        decides = self._batches & (self._batches - 1) == 0
        if torch.cuda.is_initialized() and (decides or trainer.is_last_batch):
            torch.cuda.synchronize()
        now = time.monotonic()
        self._lasted, self._since = self._lasted + now - self._since, now
        if decides:
            measured = self._batches // 2
            lasted = trainer.strategy.broadcast(self._lasted)
            if measured >= 2 and lasted >= (ENOUGH_S if measured >= SETTLED else LONG_S):
                self.seconds = lasted / measured * trainer.accumulate_grad_batches
                trainer.should_stop = True
            self._lasted, self._since = 0.0, time.monotonic()


def _without_end(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration for training that only the callback ends, and that evaluates nothing."""
    recipe, trainer = dict(config["recipe"]), dict(config["trainer"])
    recipe |= {"report": "last", "steps": None, "warm_up": None, "reset_momentum_at_drops": False}
    recipe["schedule"] = {"_target_": "densenet_cli.training.schedules.constant"}
    recipe["optimizer"] = {**recipe["optimizer"], "lr": 1e-3}
    trainer |= {"limit_val_batches": 0, "limit_test_batches": 0, "enable_progress_bar": False}
    without: dict[str, Any] = {"budget": None, "epochs": 10**9, "checkpoint_minutes": 1e6, "logger": {}}
    return {**config, **without, "recipe": recipe, "trainer": trainer}


@contextlib.contextmanager
def _without_information() -> Iterator[None]:
    """Within, only warnings are logged: the epochs of a rehearsal are not those of the run."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
