// Training triples: places of an epoch in, (user, chosen item, item not chosen) out.
#include "philox.cuh"

// Place p of an epoch is interaction number permutation(p). The item not chosen is uniform over those that its user has
// not: number `rank` among them, which is rank + c, where c counts the user's items a_0 < a_1 < ... with a_j - j <= rank.
// `shifted` holds user * num_items + a_j - j for all users, ascending; those of a user begin at starts[user].
__global__ void __launch_bounds__(THREADS) draw_triples(
    const Int64* users, const Int64* items, Int64 num_samples, int bits, const Int64* starts, const Int64* shifted,
    Int64 num_items, Word seed, Word epoch, Int64 first, Int64 count, Int64* triples
) {
    __shared__ Permutation permutation;
    if (threadIdx.x < SHUFFLE_ROUNDS) permutation.prepare_round(threadIdx.x, seed, epoch);
    if (threadIdx.x == 0) {
        permutation.count = num_samples;
        permutation.bits = bits;
    }
    __syncthreads();
    for (Int64 k = index_of_thread(); k < count; k += threads_in_grid()) {
        const Int64 sample = permutation(first + k);
        const Int64 user = users[sample];
        const Int64 begin = starts[user];
        Int64 low = begin;
        Int64 high = starts[user + 1];
        const Int64 rank = (Int64)(random_word(first + k, seed, epoch) % (Word)(num_items - (high - low)));
        const Int64 key = user * num_items + rank;
        while (low < high) {
            const Int64 middle = low + (high - low) / 2;
            if (shifted[middle] <= key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        triples[k] = user;
        triples[count + k] = items[sample];
        triples[2 * count + k] = rank + (low - begin);
    }
}
