"""A plugin of pytest: every array of CuPy gets memory of its own, so that compute-sanitizer sees reads beyond it."""

import cupy

cupy.cuda.set_allocator(None)
cupy.cuda.set_pinned_memory_allocator(None)
