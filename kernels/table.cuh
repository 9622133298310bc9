// Hash tables of labels and summed weights, with open addressing, in shared or global memory.
//
// Threads add to a table at once. Which slot a label gets depends on their order, its sum does not.
#pragma once

#include "common.cuh"

__device__ __forceinline__ int exchange_if(int* place, int expected, int value) {
    return atomicCAS(place, expected, value);
}

__device__ __forceinline__ Int64 exchange_if(Int64* place, Int64 expected, Int64 value) {
    return (Int64)atomicCAS((Word*)place, (Word)expected, (Word)value);
}

// Sums in shared memory are of 32 bits where edges have no weights: there, additions of 64 bits are loops.
template <bool Weighted>
struct SharedSum {
    typedef unsigned type;
};

template <>
struct SharedSum<true> {
    typedef Int64 type;
};

// The smallest power of two that leaves half of the table free.
__device__ __forceinline__ Int64 slots_for(Int64 labels) {
    Int64 slots = 2;
    while (slots < 2 * labels) slots *= 2;
    return slots;
}

template <class Id, class Sum>
struct Table {
    Id* labels;  // NONE where a slot is free
    Sum* sums;
    Int64 slots;  // a power of two

    __device__ __forceinline__ Int64 first_slot(Id label) const {
        return (Int64)(((Word)label * 0x9E3779B97F4A7C15ull) >> 32) & (slots - 1);
    }

    __device__ __forceinline__ void clear(int rank, int size) const {
        for (Int64 slot = rank; slot < slots; slot += size) {
            labels[slot] = (Id)NONE;
            sums[slot] = 0;
        }
    }

    // False where no slot was found after `probes` steps.
    __device__ __forceinline__ bool add(Id label, Int64 weight, Int64 probes) const {
        Int64 slot = first_slot(label);
        for (Int64 probe = 0; probe < probes; ++probe) {
            Id found = *(volatile Id*)&labels[slot];
            if (found == (Id)NONE) {
                found = exchange_if(&labels[slot], (Id)NONE, label);
                if (found == (Id)NONE) found = label;
            }
            if (found == label) {
                add_exactly(&sums[slot], weight);
                return true;
            }
            slot = (slot + 1) & (slots - 1);
        }
        return false;
    }

    // The sum of a label, 0 where it is not in the table. No thread may be adding.
    __device__ __forceinline__ Int64 sum(Id label) const {
        Int64 slot = first_slot(label);
        for (Int64 probe = 0; probe < slots; ++probe) {
            if (labels[slot] == label) return sums[slot];
            if (labels[slot] == (Id)NONE) return 0;
            slot = (slot + 1) & (slots - 1);
        }
        return 0;
    }
};
