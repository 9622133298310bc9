// What all kernels share: the words for numbers, hashes of nodes, and sums over a warp.
//
// The limits below come from the host (baco_gpu/cuda/plan.py), which passes them as macros:
//   BACO_TINY_DEGREE   the longest list that one thread takes
//   BACO_WARP_SLOTS    slots of the shared hash table of a warp; it takes lists of half as many edges
//   BACO_BLOCK_SLOTS   slots of the shared hash table of a thread block; likewise
//   BACO_WARPS         warps of a thread block
#pragma once

#if !defined(BACO_TINY_DEGREE) || !defined(BACO_WARP_SLOTS) || !defined(BACO_BLOCK_SLOTS) || !defined(BACO_WARPS)
#error "the host defines BACO_TINY_DEGREE, BACO_WARP_SLOTS, BACO_BLOCK_SLOTS and BACO_WARPS"
#endif

typedef long long Int64;
typedef unsigned long long Word;

constexpr unsigned FULL_WARP = 0xffffffffu;
constexpr int WARP = 32;
constexpr int THREADS = BACO_WARPS * WARP;
constexpr Int64 NONE = -1;

static_assert(BACO_WARPS * BACO_WARP_SLOTS <= BACO_BLOCK_SLOTS, "warps share the table of their thread block");
static_assert((BACO_WARP_SLOTS & (BACO_WARP_SLOTS - 1)) == 0, "slots are counted in powers of two");
static_assert((BACO_BLOCK_SLOTS & (BACO_BLOCK_SLOTS - 1)) == 0, "slots are counted in powers of two");

__device__ __forceinline__ int lane_of_thread() { return threadIdx.x % WARP; }

__device__ __forceinline__ Int64 index_of_thread() { return (Int64)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ __forceinline__ Int64 threads_in_grid() { return (Int64)gridDim.x * blockDim.x; }

// The finaliser of splitmix64: a bijection of 64-bit words that scatters counters.
__device__ __forceinline__ Word mix(Word x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

__device__ __forceinline__ Word node_hash(Word stream, Int64 node) {
    return mix(stream ^ ((Word)node * 0x9E3779B97F4A7C15ull));
}

// Two's complement makes the unsigned atomic the signed one.
__device__ __forceinline__ void add_exactly(Int64* sum, Int64 value) { atomicAdd((Word*)sum, (Word)value); }

__device__ __forceinline__ void add_exactly(unsigned* sum, Int64 value) { atomicAdd(sum, (unsigned)value); }

// The least of numbers from 0 on; NONE is above them all.
__device__ __forceinline__ void smallest_of(int* least, int value) { atomicMin((unsigned*)least, (unsigned)value); }

__device__ __forceinline__ void smallest_of(Int64* least, Int64 value) { atomicMin((Word*)least, (Word)value); }

__device__ __forceinline__ Int64 warp_sum(Int64 value) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        value += __shfl_xor_sync(FULL_WARP, value, offset);
    }
    return value;
}

// The place of a thread that joins a list whose length is on the device; one atomic a warp, and all lanes must call.
__device__ __forceinline__ Int64 join_list(bool joins, Int64* length) {
    const unsigned joining = __ballot_sync(FULL_WARP, joins);
    if (joining == 0) return 0;
    Int64 base = 0;
    if (lane_of_thread() == 0) base = (Int64)atomicAdd((Word*)length, (Word)__popc(joining));
    base = __shfl_sync(FULL_WARP, base, 0);
    return base + __popc(joining & ((1u << lane_of_thread()) - 1));
}

template <bool Weighted>
__device__ __forceinline__ Int64 weight_of_edge(const Int64* weights, Int64 edge) {
    if constexpr (Weighted) {
        return weights[edge];
    } else {
        return 1;
    }
}
