"""Which process of a run this is, and who started them: densenet-run, torchrun, or SLURM's srun."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal

from densenet_cli.options import UserError

NOT_LOADED = 71  # exit status of a worker that could not load torch (EX_OSERR)
SPINS = "10000"  # of about 0.07 us each

# The variables that torchrun and srun set, always all of them, in each process that they start.
TORCHRUN = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
TORCHRUN_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
SRUN_NUMBERS = (
    *("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_NTASKS"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
)
LAUNCH = (
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT"),
    *("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
)
SPECIAL_STEP = 4294967280  # from this number on a SLURM step is no srun: a batch script, a shell
RANKS = (  # what Lightning, torchmetrics and densenet-cli read
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", *TORCHRUN_NUMBERS),
    *("ROLE_RANK", "ROLE_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
    *("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE"),
)
NODES = ("NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")  # set for runs on several machines


def launcher() -> Literal["torchrun", "srun"] | None:
    """What started several processes of this command together; None if nothing did."""
    return "torchrun" if _torchrun() else "srun" if _srun() else None


def launched_from_outside() -> bool:
    """Whether torchrun or srun started several processes of this command together."""
    return launcher() is not None


def is_task_of_srun() -> bool:
    """Whether srun itself started this process, alone or as one of several, and not a script of srun's.

    Its launch then names the run, which a requeued job finds again.
    """
    if _torchrun() or not _are_numbers(("SLURM_JOB_ID", "SLURM_STEP_ID")):
        return False
    is_direct = os.environ.get("SLURM_TASK_PID") == str(os.getpid())
    return _srun() or (is_direct and int(os.environ["SLURM_STEP_ID"]) < SPECIAL_STEP)


def forget(names: Sequence[str], environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove variables that say this process is one of several, unless torchrun or srun set them.

    With a rank that a container, a notebook or an interactive SLURM job has left in the environment, a
    process would believe that another one writes the record.

    Args:
        names: RANKS, NODES or both. RANKS must be removed before Lightning is imported, which reads
            them then; NODES only for a run on one machine.
        environment: the variables.
    """
    if not launched_from_outside():
        for name in names:
            environment.pop(name, None)


def forget_nodes(trainer: dict[str, Any]) -> None:
    """In the first process of a run on one machine: `forget` NODES."""
    if trainer["num_nodes"] in (1, "1") and "LOCAL_RANK" not in os.environ:
        forget(NODES)


def global_rank() -> int:
    """This process's number among those started together, from 0."""
    if _torchrun():
        return int(os.environ["RANK"])
    if _srun():
        return int(os.environ["SLURM_PROCID"])
    return int(os.environ.get("NODE_RANK", "0")) or int(os.environ.get("LOCAL_RANK", "0"))


def is_first_process() -> bool:
    """Whether this process is the one that writes the record, the log and the checkpoints."""
    return global_rank() == 0


def launch_id() -> str | None:
    """The name of the launch, the same in all processes that torchrun or srun started together.

    Returns:
        The name; None if neither started them. A single task of srun has a name too.

    Raises:
        UserError: if torchrun has no id for the launch, so that its name would not be unique.
    """
    if is_task_of_srun():
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    if not _torchrun():
        return None
    name = os.environ["TORCHELASTIC_RUN_ID"]
    if name == "none":
        raise UserError(
            "torchrun gave this run no id, so its processes cannot agree on a folder: add "
            "--standalone or --rdzv-id=NAME to torchrun, or type hydra.run.dir=outputs/NAME"
        )
    return f"torchrun-{name}"


def restarted() -> bool:
    """Whether SLURM has requeued this job, or torchrun restarted its processes."""
    counts = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return any(os.environ.get(count, "").isdecimal() and int(os.environ[count]) > 0 for count in counts)


def launched_processes() -> tuple[int, int]:
    """How many processes torchrun or srun started on each machine, and on how many machines.

    Raises:
        UserError: if srun started more processes on one machine than on another.
    """
    if _torchrun():
        processes = int(os.environ["LOCAL_WORLD_SIZE"])
        return processes, int(os.environ["WORLD_SIZE"]) // processes
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ["SLURM_NTASKS"])
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES") or os.environ.get("SLURM_NNODES", "1"))
    if tasks % nodes:
        raise UserError(
            f"srun started {tasks} tasks on {nodes} nodes, and each node needs the same number: type "
            f"srun --nodes={nodes} --ntasks-per-node=N, with N the GPUs of a node"
        )
    return tasks // nodes, nodes


def needs_worker(trainer: dict[str, Any]) -> bool:
    """Whether a run needs a process of its own, because Lightning will start further ones from it."""
    single = (
        trainer["devices"] in (1, "1")
        and trainer["num_nodes"] in (1, "1")
        and trainer["strategy"] == "auto"
    )
    return not single and not launched_from_outside()


def spin_briefly() -> None:
    """Let waiting OpenMP threads spin for less than a millisecond before they sleep.

    torch brings GNU's OpenMP, whose threads spin for about 20 ms. On cores shared with other processes
    they take this time from the thread that they wait for, thousands of times in a training step.
    Must be called before torch is imported; child processes inherit it. A user's setting is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def leave_message(folder: Path, message: str) -> None:
    """Leave the reason why this process fails for another one, which can record it."""
    who = "" if is_first_process() else f"process {global_rank()}: "
    path = _message_path(folder)
    partial = path.with_name(f"{path.name}-{global_rank()}")
    partial.write_text(f"{_this_launch()}\n{who}{message}", encoding="utf-8")
    partial.replace(path)  # a reader sees the whole message


def read_message(folder: Path) -> str | None:
    """The reason that a process of this launch left, if any."""
    try:
        launch, _, message = _message_path(folder).read_text(encoding="utf-8").partition("\n")
    except OSError:
        return None
    return message if launch == _this_launch() else None


def take_message(folder: Path) -> str | None:
    """As read_message; remove the message."""
    message = read_message(folder)
    _message_path(folder).unlink(missing_ok=True)
    return message


def _this_launch() -> str:
    """What tells the processes of this launch from those of earlier ones."""
    return " ".join(os.environ.get(name, "") for name in LAUNCH) if launched_from_outside() else ""


def _message_path(folder: Path) -> Path:
    return folder / ".failure"


def _torchrun() -> bool:
    return all(name in os.environ for name in TORCHRUN) and _are_numbers(TORCHRUN_NUMBERS)


def _srun() -> bool:
    """Whether srun started this process as one of several. False in a shell that srun started."""
    if not _are_numbers(SRUN_NUMBERS) or "SLURM_PTY_PORT" in os.environ:  # srun --pty
        return False
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    of_job = "1" if interactive else os.environ["SLURM_NTASKS"]
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", of_job)
    return int(os.environ["SLURM_STEP_ID"]) < SPECIAL_STEP and tasks.isdecimal() and int(tasks) > 1


def _are_numbers(names: Sequence[str]) -> bool:
    return all(os.environ.get(name, "").isdecimal() for name in names)
