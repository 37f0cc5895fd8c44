"""Images of three classes that a small network can learn."""

import numpy as np
from PIL import Image

COLOURS = {"grass": (40, 160, 40), "sea": (40, 60, 200), "stone": (120, 120, 120)}


def write_images(folder, count, seed):
    """Write noisy images, `count` of each colour into a folder; PNG and JPEG, wide and tall."""
    chance = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            size = (30, 24, 3) if number % 2 else (20, 36, 3)
            pixels = np.clip(np.array(colour) + chance.normal(0, 60, size), 0, 255).astype(np.uint8)
            kind = "png" if number % 3 else "jpg"
            Image.fromarray(pixels).save(folder / name / f"{number}.{kind}")
