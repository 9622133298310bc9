// Random numbers and permutations as functions of a counter; baco_gpu/ops/counters.py has the same in PyTorch, and
// says where they come from.
#pragma once

#include "common.cuh"

constexpr int SHUFFLE_ROUNDS = 8;

// What a counter's last word says about the use of the numbers.
constexpr unsigned NEGATIVES = 0;
constexpr unsigned SHUFFLE = 1;
constexpr unsigned ROUNDING = 2;

struct Words {
    unsigned x, y, z, w;

    __device__ __forceinline__ Word low() const { return (Word)y << 32 | x; }
    __device__ __forceinline__ Word high() const { return (Word)w << 32 | z; }
};

// Philox-4x32-10.
__device__ __forceinline__ Words philox(Words counter, Word seed) {
    unsigned key = (unsigned)seed;
    unsigned other_key = (unsigned)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const Word first = (Word)0xD2511F53u * counter.x;
        const Word second = (Word)0xCD9E8D57u * counter.z;
        counter = Words{
            (unsigned)(second >> 32) ^ counter.y ^ key, (unsigned)second,
            (unsigned)(first >> 32) ^ counter.w ^ other_key, (unsigned)first
        };
        key += 0x9E3779B9u;
        other_key += 0xBB67AE85u;
    }
    return counter;
}

// The random number of 63 bits at a place of a stream; two places share a counter.
__device__ __forceinline__ Word random_word(Int64 place, Word seed, Word stream) {
    const Word counter = (Word)place >> 1;
    const Words words = philox(Words{(unsigned)counter, (unsigned)(counter >> 32), (unsigned)stream, NEGATIVES}, seed);
    return (place & 1 ? words.high() : words.low()) & 0x7fffffffffffffffull;
}

// A permutation of 0 .. count - 1: a Feistel network over numbers of so many bits, walked until it falls inside.
struct Permutation {
    Int64 count;
    int bits;
    Word factors[SHUFFLE_ROUNDS];
    Word addends[SHUFFLE_ROUNDS];

    // To be called by SHUFFLE_ROUNDS threads, each for a round of its own.
    __device__ __forceinline__ void prepare_round(int round, Word seed, Word stream) {
        const Words words = philox(Words{(unsigned)round, 0, (unsigned)stream, SHUFFLE}, seed);
        factors[round] = words.low() | 1;
        addends[round] = words.high();
    }

    __device__ __forceinline__ Word step(Word x) const {
        const int low_width = bits - bits / 2;
        Word halves[2] = {x >> low_width, x & (((Word)1 << low_width) - 1)};
#pragma unroll
        for (int round = 0; round < SHUFFLE_ROUNDS; ++round) {
            const int changed = round % 2;
            const int width = changed == 0 ? bits / 2 : low_width;
            halves[changed] ^= (halves[1 - changed] * factors[round] + addends[round]) >> (64 - width);
        }
        return halves[0] << low_width | halves[1];
    }

    __device__ __forceinline__ Int64 operator()(Int64 place) const {
        Word x = step(place);
        while (x >= (Word)count) x = step(x);
        return x;
    }
};
