"""Measures the energy of a run's training, and says in its record what was measured, or why not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from densenet_cli.energy.counters import Counter, NotMeasured
from densenet_cli.energy.sharing import DeviceUse

READ_EVERY_S = 30.0  # at 1,000 W a package uses 30,000 J meanwhile, half of the smallest range


class EnergyMeter:
    """Sums the energy that some devices use, from the time it is made until `close`.

    A counter is of a whole device, with all that runs on it. If another run of this user uses one of
    the devices at the same time, the energy of this run is unknown, and stays so when it is resumed.

    Args:
        open_counters: opens the counters of the devices that train; may raise NotMeasured.
        before: the record of the part of the run that ended before; empty for a new run.
        use: registers the use of a device.
    """

    def __init__(
        self,
        open_counters: Callable[[], Sequence[Counter]],
        before: Mapping[str, Any],
        use: Callable[[str], DeviceUse] = DeviceUse,
    ) -> None:
        self._joules = before.get("energy_joules") or 0.0
        self._unknown: str | None = before.get("energy_unknown")
        if before.get("epoch") and "energy_joules" not in before:
            self._unknown = "a part of the run was not measured"
        self._counters: Sequence[Counter] = ()
        self._uses: list[DeviceUse] = []
        self._reading = threading.Lock()
        self._closed = threading.Event()
        if self._unknown is None:
            try:
                self._open(open_counters(), use)
            except (NotMeasured, OSError) as error:
                self._unknown = str(error)

    def fields(self) -> dict[str, Any]:
        """What run.json says of it: the joules until now, of which devices, or why they are unknown."""
        self._read()
        known = self._unknown is None
        return {
            "energy_joules": round(self._joules, 3) if known else None,
            "energy_devices": [counter.name for counter in self._counters] if known else [],
            "energy_unknown": self._unknown,
        }

    def close(self) -> None:
        """Read a last time, and measure no more."""
        self._read()
        self._closed.set()
        for use in self._uses:
            use.leave()
        self._uses = []

    def _open(self, counters: Sequence[Counter], use: Callable[[str], DeviceUse]) -> None:
        self._counters = counters
        for counter in counters:
            device = use(counter.name)
            device.enter()
            self._uses.append(device)
        if any(counter.overflows for counter in counters):
            threading.Thread(target=self._read_now_and_then, daemon=True).start()

    def _read_now_and_then(self) -> None:
        while not self._closed.wait(READ_EVERY_S):
            self._read()

    def _read(self) -> None:
        """Add what was used since the last reading."""
        with self._reading:
            if self._unknown is not None or self._closed.is_set():
                return
            try:
                self._joules += sum(counter.used() for counter in self._counters)
            except NotMeasured as error:
                self._unknown = str(error)
            if any(use.was_shared for use in self._uses):
                self._unknown = "another run used the same device at the same time"
