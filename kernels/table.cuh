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

template <class Id>
struct Table {
    Id* labels;  // NONE where a slot is free
    Int64* sums;
    Int64 slots;  // a power of two

    __device__ __forceinline__ Int64 first_slot(Id label) const {
        return (Int64)(((Word)label * 0x9E3779B97F4A7C15ull) >> 32) & (slots - 1);
    }

    __device__ __forceinline__ void clear(int rank, int size) {
        for (Int64 slot = rank; slot < slots; slot += size) {
            labels[slot] = (Id)NONE;
            sums[slot] = 0;
        }
    }

    // False where no slot was found after `probes` steps.
    __device__ __forceinline__ bool add(Id label, Int64 weight, Int64 probes) {
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
