"""Networks, built from plain numbers: images (N, C, H, W) -> logits (N, num_classes)."""
