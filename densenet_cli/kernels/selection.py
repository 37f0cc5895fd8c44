"""The engine that computes fused networks on a device."""

from __future__ import annotations

import functools
import logging

from densenet_cli.kernels.cpu.compilation import Unavailable, load
from densenet_cli.kernels.engine import Engine
from densenet_cli.kernels.triton.kept import keep_compiled
from densenet_cli.plain_text import first_line

log = logging.getLogger(__name__)


@functools.cache
def engine_or_reason(device: str) -> Engine | str:
    """The engine for cpu or cuda, or why there is none. Compiles the CPU's library if needed, once."""
    try:
        return _start(device)
    except Unavailable as error:
        return str(error)


def _start(device: str) -> Engine:
    if device == "cpu":
        from densenet_cli.kernels.cpu.engine import CpuEngine

        return CpuEngine(load())
    if device == "cuda":
        try:
            from densenet_cli.kernels.triton.engine import TritonEngine
        except ImportError as error:
            raise Unavailable(f"Triton cannot be imported: {error}") from error
        keep_compiled()
        _start_triton()
        return TritonEngine()
    raise Unavailable(f"there is no fused DenseNet for the device {device}")


def _start_triton() -> None:
    """Let Triton compile what it needs to talk to the GPU's driver. Raises Unavailable."""
    from triton.runtime import driver

    try:
        driver.active.get_current_target()
    except Exception as error:  # there is no C compiler, no header, no driver: all are reasons
        raise Unavailable(f"Triton cannot start: {first_line(error)}") from error


@functools.cache
def say_once(reason: str) -> None:
    """Log why modules compute a DenseNet that the kernels should."""
    log.warning("DenseNets are computed by their modules, which is slower: %s", reason)
