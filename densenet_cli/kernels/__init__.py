"""Kernels that compute DenseNets faster and in less memory than their modules, with the same numbers.

    from densenet_cli.kernels import fuse
    network = fuse(torchvision.models.densenet121())  # in place; `unfuse(network)` undoes it

`fuse` works for the DenseNets of densenet_cli, torchvision, timm and MONAI (2-D), on a CPU or an NVIDIA
GPU. densenet-run and densenet-model use it by themselves; see `trainer.implementation`.

What costs time in a DenseNet is memory traffic, not multiplication: every layer reads all feature maps
of its block. So the kernels touch these as rarely as possible:

- The maps of a block lie in one buffer, channels last. A layer reads its first columns and writes the
  next ones; nothing is concatenated.
- Mean and variance of a map are the same for every batch norm that reads it. They are measured once,
  while the map is written.
- Batch norm and ReLU are computed while a convolution reads the maps. Normalised maps are not kept:
  the backward pass computes them again. (On a GPU, a 3x3 convolution, which reads each value nine
  times, has them written for a moment.) Memory grows linearly with depth instead of quadratically.
- The gradients of all readers of a map add up in one buffer. The part that comes from the statistics
  of their batch norms is a linear function of the map, and is added once for all (`Maps.correction`).

- In evaluation a CPU writes only what later layers read: the maps inside a bottleneck and those between
  the stem's convolution and its pooling stay in the cache. The batch norm that follows a convolution is
  folded into its weights, which are kept packed as long as they do not change.

Where to read on:

    fusion.py      attaches the kernels to a network
    libraries.py   how the libraries build their DenseNets; checks.py: what the kernels cannot compute;
                   unchanged.py: whether that must be asked again
    structure.py   the modules that they compute
    trunk.py       the forward and backward pass as one autograd function, written for any engine
    engine.py      the steps that an engine computes; maps.py: their feature maps and statistics
    cpu/           the engine for CPUs: C++ that is compiled for the processor at first use
    triton/        the engine for NVIDIA GPUs; tensor_float.py: whether it multiplies float32 in TF32

On CPUs the products use AMX or AVX512-BF16 for bfloat16 where the processor has them, else vectors of
any width from SSE2 to AVX-512. On GPUs the kernels are faster than the modules only where steps are
replayed as CUDA graphs, and compiling them takes up to half a minute; so they must be asked for.
Measured figures are in tests/benchmarks/bench_networks.py.
"""

from densenet_cli.kernels.fusion import IMPLEMENTATIONS, attach, fuse, implementation, is_fused, unfuse

__all__ = ["IMPLEMENTATIONS", "attach", "fuse", "implementation", "is_fused", "unfuse"]
