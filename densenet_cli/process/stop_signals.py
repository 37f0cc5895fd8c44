"""The signals by which a run is asked to save its state and stop."""

from __future__ import annotations

import signal

INTERRUPTED = (129, 130, 143)  # exit statuses of a run that a signal has stopped: 128 + its number


def stop_signals() -> tuple[signal.Signals, ...]:
    """Ctrl-C (SIGINT), SIGTERM and, when its terminal is closed, SIGHUP.

    SIGHUP is left out while it is ignored: the user has started the command by `nohup`, or the like, so
    that it outlives the terminal.
    """
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    asking = (signal.SIGINT, signal.SIGTERM)
    return asking if ignored else (*asking, signal.SIGHUP)
