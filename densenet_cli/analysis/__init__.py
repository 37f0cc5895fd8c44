"""Studies of trained networks: a folder for each, from a network and images to numbers and figures.

In each folder `command.py` is the study as `densenet-model` runs it, `figure.py` draws it, and the
other modules compute it.
"""

from densenet_cli.figures import own_matplotlib  # noqa: F401 -- before the modules that import matplotlib
