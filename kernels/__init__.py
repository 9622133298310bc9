"""CUDA C++ sources of the solver, of lookups and of sampling, shipped inside the wheel as `baco_gpu.kernels`."""
