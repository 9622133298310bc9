"""CUDA C++ sources of the solver, shipped inside the wheel as `baco_gpu.kernels`."""
