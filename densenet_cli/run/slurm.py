"""A run of several processes that SLURM's srun started: their numbers, and how its job is requeued."""

from __future__ import annotations

import os
import subprocess

from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment

from densenet_cli.process import ranks

PORTS = range(12000, 32000)  # below those that Linux gives to connections


class SrunEnvironment(ClusterEnvironment):
    """Lightning's view of the processes that srun started together.

    Unlike Lightning's SLURMEnvironment, it reads the variables of the step (what one srun started) and
    not those of its job, which differ in an interactive job. Nor does it save a checkpoint in a signal
    handler: the processes are then at different points, and would wait for each other for ever.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning must start no processes."""
        return True

    @property
    def main_address(self) -> str:
        """The machine of the first process."""
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        return os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)

    @property
    def main_port(self) -> int:
        """A port that other steps on the same machine are unlikely to use."""
        step = 37 * int(os.environ["SLURM_JOB_ID"]) + int(os.environ["SLURM_STEP_ID"])
        return int(os.environ.get("MASTER_PORT") or PORTS[step % len(PORTS)])

    @staticmethod
    def detect() -> bool:
        """Whether srun started this process as one of several."""
        return ranks.launcher() == "srun"

    def world_size(self) -> int:
        """The number of processes."""
        processes, nodes = ranks.launched_processes()
        return processes * nodes

    def set_world_size(self, size: int) -> None:
        """Nothing: srun has set it."""

    def global_rank(self) -> int:
        """This process's number, from 0."""
        return ranks.global_rank()

    def set_global_rank(self, rank: int) -> None:
        """Nothing: srun has set it."""

    def local_rank(self) -> int:
        """This process's number on its machine, from 0."""
        return int(os.environ["SLURM_LOCALID"])

    def node_rank(self) -> int:
        """The number of its machine, from 0."""
        return int(os.environ["SLURM_NODEID"])


def requeue() -> str | None:
    """Ask SLURM to start this job again later; why it does not, or None if it does."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        answer = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return answer.stderr.strip() or "scontrol has failed" if answer.returncode else None
