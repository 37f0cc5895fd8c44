"""Functions that configuration files call, as in `${run_folder:}`."""

from __future__ import annotations

import os
import secrets
import time
from typing import Any

import omegaconf
from omegaconf import OmegaConf

from densenet_cli.process.ranks import launch_id


def run_folder() -> str:
    """A folder below outputs/ that no other run uses.

    Processes that torchrun or srun started together share one folder, named after their launch, so
    that a job that is started again under the same name finds its checkpoints.
    """
    shared = launch_id()
    if shared is not None:
        return f"outputs/{shared}"
    return time.strftime("outputs/%Y-%m-%d/%H-%M-%S-") + secrets.token_hex(3)


def dropout_without_augmentation(augment: object) -> float:
    """The paper's dropout rate: 0.2 on data that is not augmented, else none (section 4.2)."""
    return 0.2 if augment is False else 0.0


def slurm_nodes() -> int:
    """The number of nodes of the SLURM job; 1 without SLURM."""
    return int(os.environ.get("SLURM_NNODES", "1"))


def register() -> None:
    """Make the functions known to OmegaConf."""
    # In OmegaConf 2.4 register_resolver is what register_new_resolver was before.
    before = omegaconf.__version__.startswith("2.3.")
    add: Any = OmegaConf.register_new_resolver if before else OmegaConf.register_resolver
    add("run_folder", run_folder, use_cache=True, replace=True)
    add("dropout_without_augmentation", dropout_without_augmentation, replace=True)
    add("slurm_nodes", slurm_nodes, replace=True)
