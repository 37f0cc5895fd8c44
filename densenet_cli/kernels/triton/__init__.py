"""The engine for NVIDIA GPUs, written in Triton."""
