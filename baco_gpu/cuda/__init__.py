"""The seam between Python and the CUDA sources in kernels/: what they are, how they are compiled and launched."""
