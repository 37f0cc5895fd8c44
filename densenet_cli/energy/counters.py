"""Counters of energy: of processor packages (RAPL, by Linux) and of NVIDIA's GPUs (NVML)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")  # of Linux; RAPL of AMD's processors has the same names


class NotMeasured(Exception):
    """The energy of a device is unknown; the message says why."""


class Counter(Protocol):
    """A device's counter.

    Attributes:
        name: of the device, equal in all processes of this machine.
        overflows: whether the counter starts again at zero from time to time.
    """

    name: str
    overflows: bool

    def used(self) -> float:
        """The joules since the last call, or since it was made. Raises NotMeasured."""


class Package:
    """A processor package, by its folder below /sys/class/powercap.

    Its counter starts again at zero after max_energy_range_uj, some 65,000 J or more: it must be read
    more often than it can do so, see `meter`.

    Raises:
        NotMeasured: the counter cannot be read.
    """

    overflows = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"{folder.name} ({self._text('name')})"
        self._range = self._number("max_energy_range_uj")
        self._last = self._number("energy_uj")

    def used(self) -> float:
        """The joules since the last call."""
        now = self._number("energy_uj")
        used, self._last = now - self._last, now
        return (used if used >= 0 else used + self._range) / 1e6

    def _number(self, file: str) -> int:
        text = self._text(file)
        if not text.isdecimal():
            raise NotMeasured(f"{self._folder / file} contains no number")
        return int(text)

    def _text(self, file: str) -> str:
        path = self._folder / file
        try:
            return path.read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:  # since Linux 5.10 only root may read energy_uj, unless allowed
            raise NotMeasured(f"{path} cannot be read: {error.strerror or error}") from error


class Gpu:
    """A GPU of NVIDIA, of the generation Volta (2017) or later.

    Args:
        uuid: as torch has it, without "GPU-".

    Raises:
        NotMeasured: the counter cannot be read.
    """

    overflows = False

    def __init__(self, uuid: str) -> None:
        self.name = f"GPU-{uuid}"
        self._nvml = _nvml()
        self._handle = self._call("device_get_handle_by_uuid", self.name)
        self._last = self._call("device_get_total_energy_consumption", self._handle)

    def used(self) -> float:
        """The joules since the last call."""
        now = self._call("device_get_total_energy_consumption", self._handle)
        used, self._last = now - self._last, now
        return used / 1e3  # the counter is in millijoules, since the driver was loaded

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(*arguments)
        except (self._nvml.NvmlError, RuntimeError) as error:  # RuntimeError: an old driver lacks it
            raise NotMeasured(f"NVML does not tell it of {self.name}: {error}") from error


def packages() -> list[Counter]:
    """The counters of all processor packages of this machine. Raises NotMeasured."""
    folders = sorted(POWERCAP.glob("intel-rapl:[0-9]*"))
    # A domain below, such as intel-rapl:0:0 (core), is a part of its package; psys is the whole board.
    found = [Package(folder) for folder in folders if _is_package(folder)]
    if not found:
        raise NotMeasured(f"{POWERCAP} has no counter of a processor package")
    return list(found)


def gpus(uuids: Sequence[str]) -> list[Counter]:
    """The counters of these GPUs. Raises NotMeasured."""
    return [Gpu(uuid) for uuid in uuids]


def _is_package(folder: Path) -> bool:
    try:
        return folder.name.count(":") == 1 and (folder / "name").read_text().startswith("package")
    except OSError as error:
        raise NotMeasured(f"{folder / 'name'} cannot be read: {error.strerror or error}") from error


def _nvml() -> Any:
    """NVIDIA's own binding of NVML, which torch for CUDA brings along (cuda-bindings)."""
    try:
        from cuda.bindings import nvml
    except ImportError as error:
        raise NotMeasured("the package cuda-bindings has no cuda.bindings.nvml") from error
    try:
        nvml.init_v2()
    except (nvml.NvmlError, RuntimeError) as error:  # RuntimeError: there is no driver
        raise NotMeasured(f"NVML cannot be used: {error}") from error
    return nvml
