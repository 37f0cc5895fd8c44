"""Networks: images (N, 3, H, W) to logits (N, num_classes), from plain numbers."""
