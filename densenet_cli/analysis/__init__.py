"""What a trained network does inside: networks and batches of images to numbers and figures."""

from densenet_cli.figures import own_matplotlib  # noqa: F401 -- before the modules that import matplotlib
