"""Seconds of a training step: the fused DenseNet, the modules, torchvision as it comes, torch.compile.

Each contestant has a process of its own; those of one network take turns. torch.compile works for all
networks at once, after everything else was measured, because it takes the whole machine.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from checklist_part import Result, Setting
from contestants import CONTESTANTS, Contestant
from networks import NETWORKS, TINY, Network
from side_by_side import Lost, Worker, alternate
from training_step import Trainee

from densenet_cli.results.formats import as_markdown
from densenet_cli.results.table import Table

MEASURED = (
    replace(NETWORKS["densenet-bc-100-12"], batch=64),
    replace(NETWORKS["densenet-40-12"], batch=64),
    replace(NETWORKS["densenet-121"], batch=64),
    replace(NETWORKS["densenet-121"], batch=256),
    replace(NETWORKS["resnet-20"], batch=64),
    replace(NETWORKS["resnet-50"], batch=64),
)
LIMITS_S = {"default": 100.0, "max-autotune": 60.0}  # that torch.compile may take, by its mode
SMALL_LIMIT_S = 2.0
MEASURING_S = 30.0  # for starting and measuring those that are compiled
ROUNDS = 5
PATIENCE_S = 120.0  # for a contestant that is not compiled, with the kernels' first compilation


def measure(setting: Setting) -> bool:
    """Measure all networks; whether the fused one worked wherever the kernels can compute."""
    networks = [TINY] if setting.small else [replace(one, evaluation_batch=0) for one in MEASURED]
    found: Result = {}
    for network in networks:
        found[name_of(network)] = _take_turns(network, setting.device)
        setting.keep("steps", found)
    _add_compiled(networks, found, setting)
    print(as_markdown(table(found)))
    fused = [found[name_of(one)]["fused, recorded"] for one in networks if one.is_densenet]
    return all("seconds" in one for one in fused)


def name_of(network: Network) -> str:
    """Network and batch."""
    return f"{network.title}, batch {network.batch}"


def contestants(network: Network) -> dict[str, Contestant]:
    """By what a column of the table says."""
    modules = CONTESTANTS["reference"]
    chosen = {"modules": modules, "modules, recorded": modules.replay()}
    if network.is_densenet:
        chosen["fused, recorded"] = CONTESTANTS["fused"].replay()
    # Of ResNet-50 our modules are torchvision's; of plain DenseNets and ResNet-20 it has none.
    theirs = "torchvision-plain" in network.contestants
    chosen["as it comes"] = CONTESTANTS["torchvision-plain" if theirs else "reference-plain"]
    return chosen


def compiled(network: Network) -> dict[str, Contestant]:
    """torch.compile of torchvision's network, or of our modules, in both modes."""
    theirs = "torchvision" in network.contestants
    one = CONTESTANTS["torchvision" if theirs else "reference"]
    return {f"torch.compile, {mode}": one.compile(mode) for mode in LIMITS_S}


def table(found: Result) -> Table:
    """Milliseconds of a step, as a table."""
    columns = list(dict.fromkeys(column for results in found.values() for column in results))
    rows = [
        [name, *(_milliseconds(results.get(column, {})) for column in columns)]
        for name, results in found.items()
    ]
    return Table(["network, ms a step", *columns], [False, *[True] * len(columns)], rows, [])


def _milliseconds(one: Result) -> str:
    return f"{1e3 * one['seconds']:.1f}" if "seconds" in one else "–"


def lines(found: Result) -> list[str]:
    """One line for each network: milliseconds, and why one is absent."""
    said = []
    for name, results in found.items():
        cells = [f"{column} {_milliseconds(one)}" for column, one in results.items()]
        said.append(f"{name}: ms a step: {'; '.join(cells)}")
        said += [
            f"{name}: {column}: absent: {one['absent']}"
            for column, one in results.items()
            if "absent" in one
        ]
    return said


def _take_turns(network: Network, device: str) -> Result:
    """The results of each contestant that is not compiled, or why it is absent."""
    chosen = contestants(network)
    results: Result = {column: {} for column in chosen}
    with working({column: (one, network) for column, one in chosen.items()}, device) as workers:
        prepare(workers, results, dict.fromkeys(workers, PATIENCE_S))
        _measure(workers, results)
    return results


def _add_compiled(networks: list[Network], found: Result, setting: Setting) -> None:
    """Let torch.compile work for all networks at once, and then measure what was ready in time."""
    chosen = {
        (name_of(network), column): (one, network)
        for network in networks
        for column, one in compiled(network).items()
    }
    results: Result = {key: {} for key in chosen}
    most = SMALL_LIMIT_S if setting.small else setting.seconds_left - MEASURING_S
    limits = {key: max(1.0, min(most, LIMITS_S[one.compiled])) for key, (one, _) in chosen.items()}
    with (
        tempfile.TemporaryDirectory() as cache,
        # What an earlier run compiled must not be found; and each has a share of the cores.
        _environment(TORCHINDUCTOR_CACHE_DIR=cache, TORCHINDUCTOR_COMPILE_THREADS="2"),
        working(chosen, setting.device) as workers,
    ):
        prepare(workers, results, limits)
        for network in networks:
            here = {key: one for key, one in workers.items() if key[0] == name_of(network)}
            _measure(here, results)
            for key in chosen:
                if key[0] == name_of(network):
                    found[key[0]][key[1]] = results[key]
            setting.keep("steps", found)


@contextmanager
def working(chosen: dict[Any, tuple[Contestant, Network]], device: str) -> Iterator[dict[Any, Worker]]:
    """The contestants, each in its process."""
    started = {key: Worker(Trainee, *one, device) for key, one in chosen.items()}
    try:
        yield dict(started)
    finally:
        for worker in started.values():
            worker.close()


def prepare(workers: dict[Any, Worker], results: Result, limits: dict[Any, float]) -> None:
    """Let all get ready at the same time; those that fail or take too long are removed."""

    def ready(key: Any) -> Result:
        try:
            workers[key].wait_until_ready()
            return workers[key].ask("prepare", patience_s=limits[key])
        except Lost as reason:
            return {"absent": str(reason)}

    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            prepared = dict(zip(workers, pool.map(ready, workers), strict=True))
        except BaseException:  # such as a signal: do not wait for a compiler
            for worker in workers.values():
                worker.close()
            raise
    for key, result in prepared.items():
        results[key] |= result
        if "absent" in result:
            del workers[key]


def _measure(workers: dict[Any, Worker], results: Result) -> None:
    """Medians over rounds in which the contestants take turns."""
    answers, lost = alternate(workers, "timed_steps", ROUNDS)
    for key, turns in answers.items():
        for name in ("seconds", "host_seconds"):
            results[key][name] = statistics.median(turn[name] for turn in turns)
        results[key]["rounds"] = [turn["seconds"] for turn in turns]
    for key, reason in lost.items():
        results[key]["absent"] = reason


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables, for the processes that are started within."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
