"""Gradients before training, against depth (`densenet-model depth`)."""
