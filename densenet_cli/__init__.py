"""densenet-cli: train, sweep and compare DenseNet and its rivals from one command line."""
