// The best label so far: the highest score wins, and a tie goes to the smallest label, so that the order in which
// candidates are seen leaves no trace.
#pragma once

#include "common.cuh"

enum Task { MOVE, SECOND };

#define LEAST (-__longlong_as_double(0x7ff0000000000000ll))  // minus infinity

// A word in the order of numbers, none of which is -0 or NaN, and the number of such a word.
__device__ __forceinline__ Word order_of(double number) {
    const Word word = (Word)__double_as_longlong(number);
    return word >> 63 ? ~word : word | (Word)1 << 63;
}

__device__ __forceinline__ double number_of(Word word) {
    return __longlong_as_double((Int64)(word >> 63 ? word ^ (Word)1 << 63 : ~word));
}

template <class Id>
struct Candidate {
    double score;
    Id label;

    __device__ __forceinline__ bool beats(const Candidate& other) const {
        return score > other.score || (score == other.score && label < other.label);
    }

    __device__ __forceinline__ void consider(const Candidate& other) {
        if (other.beats(*this)) *this = other;
    }
};

// The sign of a volume marks a label that is no candidate, so that one read says both; a volume itself has 63 bits.
constexpr Word MARK = (Word)1 << 63;

// What scores are made of, the same for all nodes of a launch.
template <class Id>
struct Scoring {
    const Int64* other_volumes;
    double penalty;

    __device__ __forceinline__ double factor(Int64 node_weight) const {
        return __dmul_rn(penalty, (double)node_weight);
    }

    // strength - penalty * w_x * V(label), rounded after every step.
    __device__ __forceinline__ Candidate<Id> candidate(double factor, Id label, Int64 strength, Int64 volume) const {
        const double price = __dmul_rn(factor, (double)volume);
        return Candidate<Id>{__dsub_rn((double)strength, price), label};
    }

    // A move starts from the present label, which always is a candidate; a second label starts from none.
    template <Task task>
    __device__ __forceinline__ Candidate<Id> start(double factor, Id own, Int64 own_strength) const {
        if constexpr (task == MOVE) {
            return candidate(factor, own, own_strength, (Int64)((Word)other_volumes[own] & ~MARK));
        } else {
            return Candidate<Id>{LEAST, (Id)NONE};
        }
    }

    __device__ __forceinline__ void weigh(
        Candidate<Id>& best, double factor, Id own, Id label, Int64 strength
    ) const {
        if (label == own) return;
        const Int64 volume = other_volumes[label];
        if (volume >= 0) best.consider(candidate(factor, label, strength, volume));
    }
};

template <class Id>
__device__ __forceinline__ Candidate<Id> best_of_warp(Candidate<Id> best) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        Candidate<Id> other;
        other.score = __shfl_xor_sync(FULL_WARP, best.score, offset);
        other.label = __shfl_xor_sync(FULL_WARP, best.label, offset);
        best.consider(other);
    }
    return best;
}

// Threads that look at a node together. `best` is for the thread of rank 0: the best label, and the sum that a table has
// for it, which thus takes no part in comparing.
template <class Id>
struct WarpTeam {
    static constexpr int size = WARP;
    __device__ __forceinline__ int rank() const { return lane_of_thread(); }
    __device__ __forceinline__ void wait() const { __syncwarp(); }

    template <class AnyTable>
    __device__ __forceinline__ Id best(Candidate<Id> mine, const AnyTable& table, Int64& strength) const {
        mine = best_of_warp(mine);
        if (rank() == 0) strength = table.sum(mine.label);
        return mine.label;
    }
};

template <class Id>
struct BlockTeam {
    static constexpr int size = THREADS;
    void* room;  // the shared table itself, which is not needed any more once every warp has its best

    __device__ __forceinline__ int rank() const { return threadIdx.x; }
    __device__ __forceinline__ void wait() const { __syncthreads(); }

    template <class AnyTable>
    __device__ __forceinline__ Id best(Candidate<Id> mine, const AnyTable& table, Int64& strength) const {
        struct Found {
            Candidate<Id> best;
            Int64 strength;
        };
        Found* const warps = (Found*)room;
        mine = best_of_warp(mine);
        if (lane_of_thread() == 0) strength = table.sum(mine.label);
        __syncthreads();
        if (lane_of_thread() == 0) warps[threadIdx.x / WARP] = Found{mine, strength};
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int warp = 1; warp < BACO_WARPS; ++warp) {
                if (!warps[warp].best.beats(mine)) continue;
                mine = warps[warp].best;
                strength = warps[warp].strength;
            }
        }
        return mine.label;
    }
};
