"""What a network still knows when units are deleted or swapped (`densenet-model lesions`)."""
