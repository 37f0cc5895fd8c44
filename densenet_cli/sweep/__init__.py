"""Many configurations -> many runs: planned, shared between processes, resumed, searched and decided.

Hydra's own sweeper is not used, for three reasons: after an interruption it does not know which runs
are done; it stops at the first run that fails; and several processes or GPUs cannot share one of its
sweeps. Hydra's grammar of overrides, its configurations and its launcher plugins are used.
"""
