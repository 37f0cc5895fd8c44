"""The memory that a training step takes from the system."""

import subprocess
import sys

import pytest

from densenet_cli.training import allocator

STEPS = """
import resource
import torch
from densenet_cli.training import allocator

if {kept}:
    print(allocator.keep_freed_memory())

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20).add(1)  # two buffers of 64 MiB, 4 KiB a page
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for _ in range(9):  # the first calls reserve memory
    faults()
print(min(faults() for _ in range(9)))  # the system may take memory that lies idle, at any time
"""


def _steps(kept, **environment):
    answer = subprocess.run(
        [sys.executable, "-c", STEPS.format(kept=kept)],
        env={"OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    *done, faults = answer.stdout.split()
    return done, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc's malloc is configured")
def test_a_step_reuses_the_memory_of_the_one_before():
    assert _steps(kept=True) == (["True"], pytest.approx(0, abs=64))


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")]
)
def test_what_the_user_chose_for_memory_is_kept(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("malloc was configured"))
    assert not allocator.keep_freed_memory()
