"""The energy that a run uses, from the counters of its devices."""
