"""The signals that make a run save its state and stop."""

from __future__ import annotations

import signal

INTERRUPTED = (129, 130, 138, 143)  # exit statuses of a run stopped by one of them: 128 + its number


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGINT (Ctrl-C), SIGTERM, SIGUSR1 (sbatch --signal) and SIGHUP (the terminal is closed).

    SIGHUP is left out while it is ignored: then `nohup` started the command, which must go on without
    its terminal.
    """
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    always = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    return always if ignored else (*always, signal.SIGHUP)
