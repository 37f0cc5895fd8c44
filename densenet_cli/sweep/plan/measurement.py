"""What is measured of a run before it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measurement:
    """The result of a benchmark run. The first six are known even if its steps fail.

    Attributes:
        parameters, multiply_adds: of the network; of one image.
        left_out_multiply_adds: what stochastic depth and smaller images save of `multiply_adds` in
            training, on average.
        device: its name and the number format.
        sizes: the number of images in "train", "validation" and "test".
        evaluation_split: the images evaluated after each epoch, "validation" or "test".
        images_per_second, evaluation_images_per_second: over all devices together.
        start_seconds: from the configuration to the first step; mostly reading the data.
        epoch_end_seconds: the time after an epoch's steps, for its checkpoint.
        peak_memory_bytes: memory of the GPU if the run uses one, else of the process.
        error: the message that a user who ran it would see.
    """

    parameters: int | None = None
    multiply_adds: int | None = None
    left_out_multiply_adds: int = 0
    device: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    evaluation_split: str = "test"
    images_per_second: float = 0.0
    evaluation_images_per_second: float = 0.0
    start_seconds: float = 0.0
    epoch_end_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    error: str | None = None
