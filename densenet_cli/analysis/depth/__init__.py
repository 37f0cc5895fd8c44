"""How gradient norms before training depend on depth (`densenet-model depth`)."""
