// Which clusters merge in a round: those that name each other, and, one after the other, those that follow them.
#include "candidate.cuh"

// Pairs the clusters that name each other and gain; `keepers` gets the one of each that both become, and every other
// cluster itself. Counts the pairs, the rows of users and of items that they save, and their followers, which `follows`
// marks. Then all is known of all clusters, and `counts` are at 0 for the next round.
template <class Id>
__global__ void __launch_bounds__(THREADS) pair_clusters(
    Int64 size, const Int64* sizes, const int* rows, const Id* partners, const Word* best, unsigned char* states,
    Id* keepers, unsigned char* follows, Int64* pair_counts, Int64* counts, Int64 num_counts
) {
    Int64 pairs = 0, users = 0, items = 0, followers = 0;
    if (index_of_thread() < num_counts) counts[index_of_thread()] = 0;
    for (Int64 cluster = index_of_thread(); cluster < size; cluster += threads_in_grid()) {
        bool follower = false;
        Int64 keeper = cluster;
        if (sizes[cluster] > 0) {
            states[cluster] = 0;
            const Int64 partner = partners[cluster];
            if (partner != NONE && number_of(best[cluster]) > 0) {
                const Int64 named = partners[partner];
                if (named == cluster) {
                    if (partner < cluster) {
                        keeper = partner;
                    } else {
                        const int both = rows[cluster] & rows[partner];
                        ++pairs;
                        users += both & 1;
                        items += both >> 1;
                    }
                } else {
                    follower = partners[named] == partner;
                }
            }
        }
        keepers[cluster] = (Id)keeper;
        follows[cluster] = follower;
        followers += follower;
    }
    const Int64 sums[4] = {warp_sum(pairs), warp_sum(users), warp_sum(items), warp_sum(followers)};
    if (lane_of_thread() != 0) return;
    for (int k = 0; k < 4; ++k) {
        if (sums[k] != 0) add_exactly(&pair_counts[k], sums[k]);
    }
}

// The followers in ascending order, and words that ascend as what they gain descends. `running` counts them.
template <class Id>
__global__ void __launch_bounds__(THREADS) list_followers(
    Int64 size, const unsigned char* follows, const Int64* running, const Word* best, Id* followers, Word* words
) {
    for (Int64 cluster = index_of_thread(); cluster < size; cluster += threads_in_grid()) {
        if (!follows[cluster]) continue;
        followers[running[cluster] - 1] = (Id)cluster;
        words[running[cluster] - 1] = ~best[cluster];
    }
}

// The first cluster of the pair that a cluster follows.
template <class Id>
__device__ __forceinline__ Int64 leader_of(const Id* partners, Int64 cluster) {
    const Int64 half = partners[cluster], rest = partners[half];
    return half < rest ? half : rest;
}

// Keys by which followers are in the order of their leaders, and those of one in the order in which they join it.
template <class Id>
__global__ void __launch_bounds__(THREADS) follower_keys(
    Int64 count, const Id* followers, const Int64* order, const Id* partners, Int64* keys
) {
    for (Int64 rank = index_of_thread(); rank < count; rank += threads_in_grid()) {
        keys[rank] = leader_of(partners, followers[order[rank]]) * count + rank;
    }
}

// The volumes of followers by those keys, of users and then of items; where each leader's begin, and that none waits.
template <class Id>
__global__ void __launch_bounds__(THREADS) follower_volumes(
    Int64 count, const Id* followers, const Int64* order, const Int64* keys, const Int64* volumes, Int64* own,
    Int64* firsts, Int64* waits
) {
    for (Int64 place = index_of_thread(); place < count; place += threads_in_grid()) {
        const Int64 leader = keys[place] / count;
        const Int64 cluster = followers[order[keys[place] % count]];
        own[place] = volumes[2 * cluster];
        own[count + place] = volumes[2 * cluster + 1];
        if (place == 0 || keys[place - 1] / count != leader) {
            firsts[leader] = place;
            waits[leader] = count;
        }
    }
}

// The place of the first follower of every leader for whom joining all that go before it is not sure to raise Q.
template <class Id>
__global__ void __launch_bounds__(THREADS) follower_waits(
    Int64 count, const Id* followers, const Int64* order, const Int64* keys, const Id* partners, const Word* best,
    const Int64* volumes, const Int64* own, const Int64* running, double penalty, const Int64* firsts, Int64* waits
) {
    for (Int64 place = index_of_thread(); place < count; place += threads_in_grid()) {
        const Int64 leader = keys[place] / count, first = firsts[leader];
        const Int64 cluster = followers[order[keys[place] % count]];
        const Int64 rest = partners[partners[cluster]];
        double joined[2];
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            const Int64 here = side * count + place, begin = side * count + first;
            joined[side] = (double)(volumes[2 * rest + side] + running[here] - own[here] - (running[begin] - own[begin]));
        }
        const double price = __dmul_rn(
            penalty, __dadd_rn(__dmul_rn((double)own[place], joined[1]), __dmul_rn((double)own[count + place], joined[0]))
        );
        if (__dsub_rn(number_of(best[cluster]), price) <= 0) smallest_of(&waits[leader], place);
    }
}

// Followers that do not wait join their leaders. Where not all have room, `joined` gets by rank which of them would,
// and with `running`, which counts those, the first `room` of them do.
template <class Id>
__global__ void __launch_bounds__(THREADS) join_followers(
    Int64 count, const Id* followers, const Int64* order, const Int64* keys, const Int64* waits, unsigned char* joined,
    const Int64* running, Int64 room, Id* keepers
) {
    for (Int64 place = index_of_thread(); place < count; place += threads_in_grid()) {
        const Int64 leader = keys[place] / count, rank = keys[place] % count;
        const bool joins = place < waits[leader];
        if (joined != nullptr) joined[rank] = joins;
        else if (joins && (running == nullptr || running[rank] <= room)) keepers[followers[order[rank]]] = (Id)leader;
    }
}
