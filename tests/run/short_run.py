"""Short runs in this process: a fifth of a second for an epoch of 6 steps."""

import signal

import lightning.pytorch as L
import numpy as np
import torch

from densenet_cli.run.train import train
from densenet_cli.training.interruption import Interruption

# The quickstart without epochs=, which a budget replaces.
SMALL = [
    "experiment=quickstart",
    "model.depth=10",
    "model.growth_rate=4",
    "trainer=cpu",
    "next_steps=[]",
]


def weights(folder):
    """The weights of the last epoch of a run."""
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


class Rates(L.Callback):
    """The learning rate of each step."""

    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append(float(trainer.optimizers[0].param_groups[0]["lr"]))


class StopAfter(L.Callback):
    """Pretends that SIGTERM comes during a step."""

    def __init__(self, step, interruption):
        self.step, self.interruption = step, interruption

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            self.interruption.signum = signal.SIGTERM


def train_short(configuration, folder, *callbacks, interruption=None, resume_from=None):
    rows = []
    results = train(
        configuration,
        folder,
        interruption or Interruption(),
        on_ready=lambda run: None,
        on_epoch=lambda progress: rows.append(progress.rows[-1]["epoch"]),
        callbacks=callbacks,
        resume_from=resume_from,
    )
    return results, rows


def rates_of(configuration, folder):
    """The learning rate of each step."""
    noted = Rates()
    train_short(configuration, folder, noted)
    return np.array(noted.rates)
