"""The environment of a run, for its record: versions of packages, the commit, and the peak memory."""

from __future__ import annotations

import contextlib
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("densenet-cli", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout that contains `folder`, with "+" if files differ from it."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        answer = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def reset_peak_memory() -> bool:
    """Let `peak_memory_bytes` start anew; False if the operating system cannot do this."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux, see proc(5)
    except OSError:
        return False
    return True


def peak_memory_bytes() -> int:
    """The largest memory (resident set) of this process since the reset, in bytes."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    # This may include the memory of the process that started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
