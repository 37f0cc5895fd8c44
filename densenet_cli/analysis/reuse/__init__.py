"""How strongly each layer of a DenseNet uses the feature maps before it (`densenet-model reuse`)."""
