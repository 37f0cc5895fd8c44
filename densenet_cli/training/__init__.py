"""Training: batches and a network -> weights. Loss, schedules, metrics, checkpoints, CUDA graphs."""
