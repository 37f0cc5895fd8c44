"""The network that a run has trained, loaded with the classes and the preprocessing of the run."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densenet_cli import kernels
from densenet_cli.config.build import build_model
from densenet_cli.config.trust import Trust
from densenet_cli.data import pixel_statistics
from densenet_cli.data.augmentation import Scale
from densenet_cli.data.photo import centre_crop, ten_crops
from densenet_cli.data.picture import Picture
from densenet_cli.data.pixel_statistics import Whitening
from densenet_cli.options import OptionError, UserError
from densenet_cli.record.run_record import RunRecord, reported_checkpoint
from densenet_cli.record.trained_on import other_classes
from densenet_cli.training import allocator, devices, losses
from densenet_cli.training.checkpoints import load_checkpoint, load_weights
from densenet_cli.training.losses import Loss


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with what is needed to use it.

    Attributes:
        network: maps images (N, C, H, W) to logits, in evaluation mode, on `device`.
        class_names: label 0 first.
        image_size: height and width of its input images, in pixels.
        channels: C: 3 for RGB images, 1 for grey levels.
        crop_fraction: share of an image's shorter side that the central crop keeps before resizing.
        scale: the normalisation of its input.
        device: cpu, cuda or mps.
        bfloat16: whether it computes in bfloat16.
        checkpoint: the file of its weights.
        fields: the content of run.json.
        antialias: whether its images are resized with antialiasing.
    """

    network: nn.Module
    class_names: list[str]
    image_size: tuple[int, int]
    channels: int
    crop_fraction: float
    scale: Scale | Whitening
    device: str
    bfloat16: bool
    checkpoint: Path
    fields: dict[str, Any]
    antialias: bool = True

    @property
    def batch_size(self) -> int:
        """Images per device in a batch of its run; equal batches give equal rounding errors."""
        processes = self.fields.get("processes") or 1
        return max(1, self.fields["config"]["data"]["batch_size"] // processes)

    @property
    def several_labels(self) -> bool:
        """Whether its images can have several labels: its classes do not exclude each other."""
        return bool(self.fields["data"].get("several_labels"))

    @property
    def loss(self) -> Loss:
        """The loss that its run had on test images."""
        return Loss(self.fields["config"]["recipe"].get("loss"), self.several_labels)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of the classes (N, classes): see `losses.probabilities`."""
        return losses.probabilities(logits, self.several_labels)

    def arithmetic(self) -> torch.autocast:
        """A context in which the network computes in its precision."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bfloat16)

    def crop(self, picture: Picture) -> Tensor:
        """The centre of an image, as the run reads it: (H, W, C) uint8."""
        return centre_crop(
            picture, self.image_size[0], self.crop_fraction, self.channels, self.antialias
        )

    def ten_crops(self, picture: Picture) -> Tensor:
        """Ten crops of an image, see `photo.ten_crops`: (10, H, W, C) uint8."""
        return ten_crops(picture, self.image_size[0], self.crop_fraction, self.channels, self.antialias)

    def check_ten_crops(self) -> None:
        """Raise UserError if the network takes images whole."""
        if self.crop_fraction == 1:
            raise UserError(
                "--ten-crop: this network takes images whole, not cropped; ten crops need "
                "data=image_folder or data=image_table"
            )

    def inputs(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C) uint8, normalised for the network: (N, C, H, W) float32."""
        return self.scale.normalised(images.to(self.device)).permute(0, 3, 1, 2)

    def pixels(self, inputs: Tensor) -> Tensor:
        """The inverse of `inputs`, (..., C, H, W): RGB images (..., H, W, 3), 0..1, on the CPU."""
        shown = self.scale.pixels(inputs.movedim(-3, -1))
        return shown.clamp(0, 1).cpu().expand(*shown.shape[:-1], 3)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """The network's logits (N, classes), float32 on the CPU, for images (N, H, W, C) uint8.

        For several crops of each image, (N, crops, H, W, C), they are the means over these.
        """
        with self.arithmetic():
            logits = self.network(self.inputs(images.flatten(0, -4))).float().cpu()
        return logits if images.ndim == 4 else logits.unflatten(0, images.shape[:2]).mean(1)


def load(
    run: Path,
    device: str = "auto",
    precision: str | None = None,
    trust: Trust = Trust(),  # noqa: B008 -- it is frozen
) -> TrainedNetwork:
    """Load the network of a run.

    Args:
        run: the run's folder, for the checkpoint whose results the run reports; or a file in its folder
            checkpoints/.
        device: auto, cpu, cuda or mps.
        precision: 32-true or bf16-mixed; None: as in training.
        trust: classes and packages that the run's folder may name besides those of densenet-cli.

    Raises:
        UserError: there is no such run or checkpoint, they do not belong together, or the run names a
            network or data that are not trusted.
    """
    folder, checkpoint = _places(run)
    fields = RunRecord.read(folder).fields
    data = fields.get("data") or {}
    if not data.get("class_names") or not data.get("statistics"):
        raise UserError(
            f"{folder}: the run ended before it had read its data, so there is no network to use"
        )
    trust.check(fields["config"], folder / "run.json", ("model", "data"))
    checkpoint = checkpoint or _reported(folder, fields)
    content = load_checkpoint(checkpoint)
    if difference := other_classes(content.get("trained_on") or {}, data):
        rule = f"was trained on other classes than {folder / 'run.json'} names: {difference}"
        raise UserError(f"{checkpoint}: {rule}")
    channels = data.get("channels", 3)  # not in the records of outputs/study
    network = build_model(fields["config"]["model"], len(data["class_names"]), channels)
    load_weights(network, content, checkpoint)
    device = devices.accelerator(device)
    if not devices.is_available(device):
        raise OptionError("--device", device, "torch finds no such device", "cpu")
    allocator.keep_freed_memory()  # of one batch for the next
    if fields["config"].get("trainer", {}).get("implementation") != "reference":
        kernels.attach(network, "auto", device)
    height, width = data["image_size"]
    return TrainedNetwork(
        network.eval().to(device=device, memory_format=torch.channels_last),
        data["class_names"],
        (height, width),
        channels,
        _crop_fraction(fields["config"]["data"]["_target_"]),
        _scale(fields, content, checkpoint, torch.device(device)),
        device,
        (precision or fields.get("precision")) == "bf16-mixed",
        checkpoint,
        fields,
        fields["config"]["data"].get("antialias", True),
    )


def _places(run: Path) -> tuple[Path, Path | None]:
    """The run's folder and, if one was named, the checkpoint."""
    if run.is_file() and run.parent.name == "checkpoints":
        return run.parent.parent, run
    if run.is_file():
        raise UserError(
            f"{run}: is not in the folder of a run; name outputs/<run> or outputs/<run>/checkpoints/..."
        )
    if not run.is_dir():
        raise UserError(f"{run}: there is no such run; name its folder, as outputs/DATE/TIME")
    return run, None


def _reported(folder: Path, fields: dict[str, Any]) -> Path:
    """The checkpoint whose results a run reports. Raises UserError if the run trained no network."""
    name = reported_checkpoint(fields)
    if name is None:
        raise UserError(f"{folder}: this run tested a network that another run trained; name that run")
    return folder / "checkpoints" / f"{name}.ckpt"


def _scale(
    fields: dict[str, Any], content: dict[str, Any], checkpoint: Path, device: torch.device
) -> Scale | Whitening:
    """The normalisation of a run. Raises UserError if its checkpoint does not hold it."""
    data, kind = fields["data"], fields["config"]["data"].get("normalise")
    if kind not in pixel_statistics.KINDS:
        return Scale.of(data["statistics"], data["image_size"][1], device)
    saved = pixel_statistics.saved(content)
    if saved is None or saved.kind != kind or list(saved.image_size) != data["image_size"]:
        raise UserError(
            f"{checkpoint}: does not hold the normalisation of its run, data.normalise={kind}"
        )
    return saved.normaliser(device)


def _crop_fraction(target: str) -> float:
    """See TrainedNetwork.crop_fraction; an attribute of the run's data set."""
    try:
        return pkgutil.resolve_name(target).crop_fraction
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"data._target_={target}: cannot be imported here: {error}") from error
