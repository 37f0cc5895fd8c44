"""The fused kernels for GPUs, written in Triton."""
