"""Where networks are wrong, and whether they know it (`densenet-model mistakes`)."""
