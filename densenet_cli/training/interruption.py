"""Ctrl-C, SIGTERM and SIGHUP as a wish that training grants between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from densenet_cli.process.stop_signals import stop_signals


class Interrupted(Exception):
    """The run was asked to stop, by a signal such as Ctrl-C, and has saved where it was."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)

    @property
    def exit_status(self) -> int:
        """The exit status that shells expect: 130 after Ctrl-C."""
        return 128 + self.signum


class Interruption:
    """While entered: the stop signals raise Interrupted, at once or when training grants it.

    After `defer` the first signal is noted in `signum` for training to act on; a second Ctrl-C stops
    at once. While `stalled`, any signal does: the step whose end it would wait for may never end.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.stalled = False
        self._deferred = False
        self._signals = stop_signals()

    def __enter__(self) -> Interruption:
        self._before = {number: signal.getsignal(number) for number in self._signals}
        self._take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """Note signals from now on; also takes them back from Lightning, which claims them in fit."""
        self._deferred = True
        self._take()

    def check(self) -> None:
        """Raise Interrupted if a signal was noted."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def stall(self) -> None:
        """From a thread that watches: the step is stuck. A signal that waits for it is obeyed now."""
        self.stalled = True
        if self.signum is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, self.signum)

    def _take(self) -> None:
        for number in self._signals:
            signal.signal(number, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if not self._deferred or self.stalled:
            raise Interrupted(signum)
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
