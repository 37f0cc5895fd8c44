"""DenseNets computed faster: `fuse(network)` attaches the kernels to one, with the same numbers."""

from densenet_cli.kernels.fusion import IMPLEMENTATIONS, attach, fuse, implementation, is_fused, unfuse

__all__ = ["IMPLEMENTATIONS", "attach", "fuse", "implementation", "is_fused", "unfuse"]
