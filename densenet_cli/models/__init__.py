"""Networks, built from plain numbers: images (N, 3, H, W) -> logits (N, num_classes)."""
