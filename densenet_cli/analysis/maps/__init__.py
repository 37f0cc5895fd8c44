"""Which feature maps are dead or redundant (`densenet-model maps`)."""
