"""The fused kernels for CPUs: C++ sources, compiled on the machine that runs them."""
