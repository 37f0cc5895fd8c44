"""Compiling the kernels: seconds until the first step, with an empty cache and in a later process.

It comes before all that measures, so that the kernels are ready there. All networks compile at the same
time, each in a process of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import step_times
from checklist_part import Result, Setting
from contestants import CONTESTANTS, Contestant
from networks import NETWORKS, TINY, Network
from rounding_errors import CHECKED
from side_by_side import Lost, Worker
from training_step import Trainee

LIMIT_S = 150.0
AGAIN = replace(NETWORKS["densenet-bc-100-12"], batch=64)  # in a second process


def measure(setting: Setting) -> bool:
    """Let the kernels be compiled; whether all could be."""
    formats = ("fused", "fused-float32")
    chosen: dict[Any, tuple[Contestant, Network]] = {
        f"{step_times.name_of(network)}, {name}": (CONTESTANTS[name], network)
        for network in ((TINY,) if setting.small else CHECKED)
        for name in formats
    }
    if not setting.small:
        chosen |= {
            f"{step_times.name_of(network)}, fused": (CONTESTANTS["fused"], network)
            for network in step_times.MEASURED
            if network.is_densenet
        }
    first: Result = {key: {} for key in chosen}
    with step_times.working(chosen, setting.device) as workers:
        step_times.prepare(workers, first, dict.fromkeys(workers, LIMIT_S))
        for key, worker in workers.items():
            if chosen[key][1].evaluation_batch:
                first[key] |= {"evaluation": worker.ask("timed_evaluation")}
    found = {"first": first, "again": {}}
    setting.keep("compile", found)
    again = Worker(Trainee, CONTESTANTS["fused"], TINY if setting.small else AGAIN, setting.device)
    try:
        again.wait_until_ready()
        found["again"] = again.ask("prepare")
    except Lost as reason:
        found["again"] = {"absent": str(reason)}
    finally:
        again.close()
    setting.keep("compile", found)
    return not any("absent" in one for one in [*first.values(), found["again"]])


def lines(found: Result) -> list[str]:
    """Seconds of first steps, and what could not be compiled."""
    if not found:
        return []
    tried = {**found["first"], "a later process": found["again"]}
    said = [f"{key}: absent: {one['absent']}" for key, one in tried.items() if "absent" in one]
    taken = [one["first_step_s"] for one in found["first"].values() if "first_step_s" in one]
    later = found["again"].get("first_step_s")
    again = "" if later is None else f"; {later:.1f} s in a later process"
    most = f"{max(taken):.1f} s at most" if taken else "none"
    return [f"first steps of {len(taken)} networks at the same time: {most}{again}", *said]
