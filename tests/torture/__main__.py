"""`make torture`: tries to break the software for about ten minutes; prints a summary or the faults.

python tests/torture                       all parts, for TORTURE_MINUTES, with TORTURE_SEED
python tests/torture PART                  one part: kills, faults, records or hostile
python tests/torture PART CASE             one case again, as the report of a fault names it
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = (
    "1"  # before torch is loaded: bit-equal results, and two parts side by side
)

PARTS = {  # share of the time, and a name for the cases
    "kills": (1.0, "kills of sweeps"),
    "faults": (0.45, "faults at file operations"),
    "records": (0.35, "records changed"),
    "hostile": (0.2, "hostile folders"),
}
LANES = (("kills",), ("faults", "records", "hostile"))  # side by side, for two cores
MARK = "counts: "  # begins the line with a part's counts


def main() -> int:
    """Run the parts or the part that was typed; 1 if there was a fault."""
    seed = int(os.environ.get("TORTURE_SEED") or 0)
    minutes = float(os.environ.get("TORTURE_MINUTES") or 10)
    arguments = sys.argv[1:]
    if arguments:
        return _run_part(arguments[0], seed, minutes, int(arguments[1]) if arguments[1:] else None)
    print(f"torture: seed {seed}, {minutes:g} minutes", flush=True)
    started = time.monotonic()
    with ThreadPoolExecutor(len(LANES)) as pool:
        lanes = list(pool.map(lambda lane: [_start_part(part, seed, minutes) for part in lane], LANES))
    results = [result for lane in lanes for result in lane]
    counts = "; ".join(f"{found['cases']:,} {PARTS[found['part']][1]}" for found in results)
    faults = sum(found["faults"] for found in results)
    took = (time.monotonic() - started) / 60
    print(f"torture: seed {seed}, {took:.1f} minutes: {counts}; {faults or 'no'} faults")
    return 1 if faults else 0


def _start_part(part: str, seed: int, minutes: float) -> dict[str, Any]:
    """Run a part in a process of its own, and print its output except its counts."""
    command = [sys.executable, str(Path(__file__).parent), part]
    environment = {**os.environ, "TORTURE_SEED": str(seed), "TORTURE_MINUTES": str(minutes)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found: dict[str, Any] = {"part": part, "cases": 0, "faults": 1}
    for line in process.stdout:
        if line.startswith(MARK):
            found |= json.loads(line.removeprefix(MARK))
        else:
            print(line, end="", flush=True)
    if process.wait() not in (0, 1):
        print(f"torture: the part {part} ended with status {process.returncode}", flush=True)
    return found


def _run_part(part: str, seed: int, minutes: float, only: int | None) -> int:
    import importlib

    from case import Fault

    faults = tried = 0
    deadline = time.monotonic() + 60 * minutes * PARTS[part][0]
    with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as scratch:
        cases = importlib.import_module(part).cases(seed, Path(scratch).resolve(), deadline, only)
        for number, what, case in cases:
            try:
                tried += case() or 1
            except Fault as fault:
                faults += 1
                tried += 1
                print(f"fault: {part} {number}, {what}: {fault}")
                print(f"again: TORTURE_SEED={seed} python tests/torture {part} {number}", flush=True)
    if not tried:
        print(f"fault: {part}: no case was tried within the time")
        faults = 1
    print(MARK + json.dumps({"cases": tried, "faults": faults}), flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
