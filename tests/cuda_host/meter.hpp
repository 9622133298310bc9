// Counts the bytes that a kernel reads and writes in the arrays of its launch. The kernels are compiled with
// -fsanitize=thread, which calls a function at every access to memory; these take the place of the sanitizer's own.
// Shared memory and the stacks of threads lie elsewhere, and do not count. An atomic reads and writes. Lanes of a warp
// that read the same place read it once, together.
#pragma once

#include <cstddef>
#include <cstdint>

#define UNSEEN __attribute__((no_sanitize("thread")))

namespace meter {

constexpr int MOST_ARRAYS = 64;
inline std::uintptr_t begins[MOST_ARRAYS], sizes[MOST_ARRAYS];
inline int arrays = 0, recent = 0;
inline std::uint64_t bytes[2];  // read, written

// How often the lanes of a warp have read a place, for places that were read of late: the n-th times of all are one.
struct Reading {
    std::uintptr_t place = 0;
    std::uint64_t warp = 0;
    std::uint32_t most = 0, times[32] = {};
};
inline Reading readings[1 << 12];

UNSEEN inline bool joins_others(std::uintptr_t place) {
    const unsigned thread = cuda_host::machine.running->thread.x;
    const std::uint64_t warp = std::uint64_t(cuda_host::block_index.x) * 32 + thread / 32;
    Reading& found = readings[(place / 4 + warp * 509) % (1 << 12)];
    if (found.place != place || found.warp != warp) found = Reading{place, warp};
    if (++found.times[thread % 32] <= found.most) return true;
    ++found.most;
    return false;
}

UNSEEN inline void note(const void* place, std::size_t size, bool written) {
    const auto address = reinterpret_cast<std::uintptr_t>(place);
    if (address - begins[recent] >= sizes[recent]) {
        int k = 0;
        while (k < arrays && address - begins[k] >= sizes[k]) ++k;
        if (k == arrays) return;
        recent = k;
    }
    if (written || !joins_others(address)) bytes[written] += size;
}

}  // namespace meter

#define ACCESSES(size)                                                                                   \
    extern "C" UNSEEN void __tsan_read##size(void* place) { meter::note(place, size, false); }           \
    extern "C" UNSEEN void __tsan_write##size(void* place) { meter::note(place, size, true); }           \
    extern "C" UNSEEN void __tsan_unaligned_read##size(void* place) { meter::note(place, size, false); } \
    extern "C" UNSEEN void __tsan_unaligned_write##size(void* place) { meter::note(place, size, true); }

ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

extern "C" UNSEEN void __tsan_read_range(void* place, std::size_t size) { meter::note(place, size, false); }
extern "C" UNSEEN void __tsan_write_range(void* place, std::size_t size) { meter::note(place, size, true); }
extern "C" UNSEEN void __tsan_func_entry(void*) {}
extern "C" UNSEEN void __tsan_func_exit(void*) {}
extern "C" UNSEEN void __tsan_vptr_update(void*, void*) {}
extern "C" UNSEEN void __tsan_init() {}

// The arrays of the next launch.
EXPORTED UNSEEN void meter_watch(int count, const std::uintptr_t* places, const std::uintptr_t* lengths) {
    meter::arrays = count < meter::MOST_ARRAYS ? count : meter::MOST_ARRAYS;
    meter::recent = 0;
    for (int k = 0; k < meter::arrays; ++k) {
        meter::begins[k] = places[k];
        meter::sizes[k] = lengths[k];
    }
    meter::bytes[0] = meter::bytes[1] = 0;
    for (meter::Reading& reading : meter::readings) reading = meter::Reading{};
}

EXPORTED UNSEEN void meter_read(std::uint64_t* read_and_written) {
    read_and_written[0] = meter::bytes[0];
    read_and_written[1] = meter::bytes[1];
}
