"""The extension of tilefold with CUDA kernels; tilefold loads it."""
