"""A SLURM of this machine alone, which needs no rights and no configuration of the system."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "salloc", "scontrol", "scancel", "sinfo")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobRequeue=1
KillWait=20
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP OverSubscribe=FORCE:8
"""


def missing() -> str | None:
    """The first of the programs that is not installed; None if all are."""
    return next((name for name in PROGRAMS if shutil.which(name) is None), None)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """Within, srun, sbatch and the others use a SLURM whose files are in a folder."""
    (folder / "spool").mkdir(parents=True)
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    path = folder / "slurm.conf"
    host, cores = socket.gethostname().partition(".")[0], os.cpu_count()
    about = {"host": host, "ports": ports, "user": getpass.getuser(), "folder": folder, "cores": cores}
    path.write_text(CONFIGURATION.format(**about))
    os.environ["SLURM_CONF"] = str(path)
    started = []
    try:
        for program in ("slurmctld", "slurmd"):
            with (folder / f"{program}.out").open("w") as output:
                foreground = [program, "-D", "-f", str(path)]
                started.append(subprocess.Popen(foreground, stdout=output, stderr=output))
        deadline = time.monotonic() + 60
        while "idle" not in _said("sinfo", "--noheader", "--format=%T"):
            assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()
            time.sleep(0.2)
        yield
    finally:
        _said("scancel", f"--user={getpass.getuser()}", "--signal=KILL", "--full")
        _said("scancel", f"--user={getpass.getuser()}")
        time.sleep(1)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(30)
        del os.environ["SLURM_CONF"]


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
