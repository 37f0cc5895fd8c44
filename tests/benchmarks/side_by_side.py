"""Measures things side by side: each in a fresh process of its own, one at a time, by turns.

So none inherits another one's memory, allocator settings or compiled code, and other load on the
machine affects all of them alike.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

PATIENCE_S = 600.0  # wait so long for an answer that should take seconds


class Lost(Exception):
    """A worker failed, died or took too long; the text says which."""


class Worker:
    """An object in a process of its own, whose methods are called from here.

    Args:
        make: called there with `arguments`, returns the object. It must be importable.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        """Wait until the object is made. Raises Lost."""
        self._answer(PATIENCE_S)

    def ask(self, method: str, *arguments: Any, patience_s: float = PATIENCE_S) -> Any:
        """Call a method of the object. Raises Lost, after which the process is gone."""
        self._connection.send((method, arguments))
        return self._answer(patience_s)

    def close(self) -> None:
        """Kill the process and those that it started, such as a compiler."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()

    def _answer(self, patience_s: float) -> Any:
        try:
            if not self._connection.poll(patience_s):
                raise Lost(f"not finished after {patience_s:.0f} s")
            error, value = self._connection.recv()
            if error is not None:
                raise Lost(error)
        except (EOFError, ConnectionError):
            self.close()
            raise Lost("its process died; was there too little memory?") from None
        except Lost:
            self.close()
            raise
        return value


def _serve(connection: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What the process does: make the object, then answer calls until the connection closes."""
    os.setsid()
    method, call = None, make
    with suppress(EOFError, BrokenPipeError):
        while True:
            try:
                value = call(*arguments)
            except Exception as error:  # any failure of a contestant is its result
                reason = str(error).strip().partition("\n")[0]
                connection.send((f"{type(error).__name__}: {reason}", None))
                return
            if call is make:
                made, value = value, None
            connection.send((None, value))
            method, arguments = connection.recv()
            call = getattr(made, method)


def alternate(
    workers: dict[str, Worker], method: str, rounds: int
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Call a method of every worker once per round, in an order that changes from round to round.

    Returns:
        The answers of each worker, round by round; the reasons of workers that were lost, which are
        removed from `workers`.
    """
    answers: dict[str, list[Any]] = {name: [] for name in workers}
    lost: dict[str, str] = {}
    for number in range(rounds):
        for name in random.Random(number).sample(list(workers), len(workers)):
            try:
                answers[name].append(workers[name].ask(method))
            except Lost as reason:
                lost[name] = str(reason)
                del workers[name], answers[name]
    return answers, lost


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Wall seconds, processor seconds of all threads, and how often these were preempted."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    began, began_cpu = time.perf_counter(), time.process_time()
    work()
    ended, ended_cpu = time.perf_counter(), time.process_time()
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before
    return {"seconds": ended - began, "cpu_seconds": ended_cpu - began_cpu, "switches": switches}


def summary(turns: list[Mapping[str, float]]) -> dict[str, Any]:
    """Medians and quartiles over rounds of what `timed` returned."""
    seconds = [turn["seconds"] for turn in turns]
    low, middle, high = statistics.quantiles(seconds, method="inclusive") if turns[1:] else seconds * 3
    return {
        "seconds": middle,
        "quartiles": [low, high],
        "cpu_seconds": statistics.median(turn["cpu_seconds"] for turn in turns),
        "switches": sum(turn["switches"] for turn in turns),
        "rounds": seconds,
    }


def ratio(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """How many times as long one took as the other: the median of each round's ratio.

    Measurements of one round see the same load on the machine, so this varies less than the ratio of
    the medians.
    """
    return statistics.median(map(lambda a, b: a / b, one["rounds"], other["rounds"]))
