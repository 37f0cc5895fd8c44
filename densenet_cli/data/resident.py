"""Small images that a GPU holds as bytes, so that a training batch is made there of indices only."""

from __future__ import annotations

import torch
from torch import Tensor

from densenet_cli.data.epoch_order import Tickets
from densenet_cli.data.image_data import Batch, Split

SHARE = 0.1  # of a GPU's free memory, which images may take


class ResidentSplit(Split):
    """Images on a device. An item is (indices, draws), two tensors (n,) int64, instead of a batch.

    Args:
        images, labels: all images of the set, (N, H, W, C) uint8, and their labels (N,).
        chosen: indices of those in the split, (n,).
        augment: whether batches carry the draws that decide how images are augmented.
        device: where images and labels are copied to.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, chosen: Tensor, augment: bool, device: torch.device
    ) -> None:
        self.images, self.labels = images.to(device), labels.to(device)
        self.chosen, self.augment = chosen, augment

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, tickets: Tickets) -> Batch:
        rows, draws = torch.from_numpy(tickets).unbind(1)
        return self.chosen[rows], draws.clone()

    def batch(self, indices: Tensor, draws: Tensor) -> Batch:
        """The batch on the device, made there of an item."""
        images, labels = self.images.index_select(0, indices), self.labels.index_select(0, indices)
        return (images, labels, draws) if self.augment else (images, labels)


def fit(images: Tensor, device: torch.device) -> bool:
    """Whether images should be resident: on a GPU with CUDA, if they fit the SHARE of its memory."""
    return device.type == "cuda" and images.nbytes <= SHARE * torch.cuda.mem_get_info(device)[0]
