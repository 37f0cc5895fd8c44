"""Ctrl-C and the other stop signals, which stop training between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from lightning.pytorch import Trainer

from densenet_cli.process.stop_signals import stop_signals


def stop_asking_for_sigterm(trainer: Trainer) -> None:
    """Keep Lightning from asking all processes before every step whether one was sent SIGTERM.

    It reads the answer from the device, which then waits for the processor at every step. Checkpoints
    asks for all signals, and less often. Lightning has no public option for it: a method of its loop is
    replaced here, if it is there. A test counts the questions, so that a new name of it is noticed.
    """
    loop = trainer.fit_loop.epoch_loop
    if hasattr(loop, "_broadcast_sigterm_tensor"):
        loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


class Interrupted(Exception):
    """A signal such as Ctrl-C has stopped the run, whose state is saved."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)

    @property
    def exit_status(self) -> int:
        """The exit status that shells expect: 130 after Ctrl-C."""
        return 128 + self.signum


class Interruption:
    """While entered, the stop signals raise Interrupted: at once, or once training has saved its state.

    After `defer` the first signal is only stored in `signum`; training saves its state and stops. A
    second Ctrl-C stops at once. While `stalled`, any signal stops at once: the step may never end.

    Args:
        deferred: store signals from the beginning: for processes that are waiting for this one, and
            that nobody would end if it stopped before them.
    """

    def __init__(self, deferred: bool = False) -> None:
        self.signum: int | None = None
        self.stalled = False
        self._deferred = deferred
        self._signals = stop_signals()

    def __enter__(self) -> Interruption:
        self._before = {number: signal.getsignal(number) for number in self._signals}
        self._set_handlers()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)  # see process.start.begin
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
        """Store signals from now on. Trainer.fit sets a handler of its own, which is replaced here."""
        self._deferred = True
        self._set_handlers()

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def stall(self) -> None:
        """Called by the watchdog's thread: the step is stuck, so a stored signal stops training now."""
        self.stalled = True
        if self.signum is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, self.signum)

    def _set_handlers(self) -> None:
        for number in self._signals:
            signal.signal(number, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if not self._deferred or self.stalled:
            raise Interrupted(signum)
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
