"""The test error after residual blocks or layers are deleted or swapped (`densenet-model lesions`)."""
