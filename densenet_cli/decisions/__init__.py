"""Whether one setting's errors are lower than another's: tests, intervals, and the seeds they need."""
