"""Many configurations -> many runs: planned, shared out between processes, and resumed.

Hydra's own sweeper is not used: when interrupted it forgets which runs are done, it stops at the first
failure, and it cannot share one sweep between several processes or GPUs.
"""
