"""How much memory Python's allocator hands out while something runs."""

import tracemalloc

SLACK = 1 << 15  # Python's own objects


def peak(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
