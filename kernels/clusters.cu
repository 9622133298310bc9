// Best partners straight from the edges of clusters' members: no graph of clusters is made.
//
// Gains are the same from both sides: a cluster that has changed looks at its edges anew, and offers what it finds to
// those that have not. One whose partner is gone, and which is offered nothing above its bound, looks at its own edges
// too. Clusters go by the edges of their members: to a warp or a thread block with a shared table that cannot overflow,
// or, the hubs, in pieces to all warps, which add to tables in global memory. Such tables are empty before and after.
#include "rounds.cuh"

// Slots of the shared table of a thread block: half as many where each takes 16 bytes.
template <class Id, bool Weighted>
struct SharedSlots {
    static constexpr int bytes = sizeof(Id) + sizeof(typename SharedSum<Weighted>::type);
    static constexpr int block = bytes > 12 ? BACO_BLOCK_SLOTS / 2 : BACO_BLOCK_SLOTS;
};

// The members of clusters, one after the other, and their edges. Users are the first nodes, items the others.
template <class Id>
struct Groups {
    const Id* members;
    const Int64* starts;
    const Int64* sizes;
    const Int64* ends;  // of every member, the edges up to its last one, of all before it as well
    Int64 num_users;
    const Int64* offsets[2];
    const Id* neighbors[2];
    const Int64* weights[2];
    const Id* other_labels[2];
};

// What is known of the merges of clusters.
template <class Id>
struct Merges {
    const Int64* volumes;  // users, items, users, items, ...
    double penalty;
    unsigned char* states;
    Id* partners;
    Word* best;
    Word* bounds;
    bool offering;
    Id* offers;  // pairs: to whom, from whom
    Word* offered;
    Int64* num_offers;
    Int64 room;

    __device__ __forceinline__ double gain(Int64 one, Int64 other, double strength) const {
        // Both products are symmetric in the two clusters, so both see the same gain to the last bit.
        const double crossing = __dadd_rn(
            __dmul_rn((double)volumes[2 * one], (double)volumes[2 * other + 1]),
            __dmul_rn((double)volumes[2 * one + 1], (double)volumes[2 * other])
        );
        return __dsub_rn(strength, __dmul_rn(penalty, crossing));
    }

    // The best merge of a cluster is at least this one; of two the lesser one joins the bound.
    __device__ __forceinline__ Word raise(Int64 cluster, Word found) const {
        const Word before = atomicMax(&best[cluster], found);
        atomicMax(&bounds[cluster], before < found ? before : found);
        return before;
    }
};

// The best merge that some threads have seen, and what all others gain at most.
template <class Id>
struct BestMerge {
    Candidate<Id> best;
    double bound;

    __device__ __forceinline__ void consider(double gain, Id label) {
        const Candidate<Id> other{gain, label};
        if (other.beats(best)) {
            if (best.score > bound) bound = best.score;
            best = other;
        } else if (gain > bound) {
            bound = gain;
        }
    }

    __device__ __forceinline__ void join(const BestMerge& other) {
        if (other.bound > bound) bound = other.bound;
        if (other.best.label != (Id)NONE) consider(other.best.score, other.best.label);
    }
};

template <class Id>
__device__ __forceinline__ BestMerge<Id> no_merge() {
    return BestMerge<Id>{Candidate<Id>{LEAST, (Id)NONE}, LEAST};
}

template <class Id>
__device__ __forceinline__ BestMerge<Id> best_merge_of_warp(BestMerge<Id> mine) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        BestMerge<Id> other;
        other.best.score = __shfl_xor_sync(FULL_WARP, mine.best.score, offset);
        other.best.label = __shfl_xor_sync(FULL_WARP, mine.best.label, offset);
        other.bound = __shfl_xor_sync(FULL_WARP, mine.bound, offset);
        mine.join(other);
    }
    return mine;
}

// The lists of 32 members, one a lane, go to all lanes edge by edge, whatever their lengths.
template <class Id, bool Weighted, class AnyTable>
__device__ void add_lists(
    const Groups<Id>& groups, int side, Int64 first, Int64 length, const AnyTable& table, Int64 slots
) {
    Int64 end = length;  // of this lane's list, counted from the beginning of the first
    for (int offset = 1; offset < WARP; offset *= 2) {
        const Int64 before = __shfl_sync(FULL_WARP, end, (lane_of_thread() + WARP - offset) % WARP);
        if (lane_of_thread() >= offset) end += before;
    }
    const Int64 total = __shfl_sync(FULL_WARP, end, WARP - 1);
    const Int64 shift = (first - (end - length)) * 2 + side;
    for (Int64 base = 0; base < total; base += WARP) {
        const Int64 place = base + lane_of_thread();
        int list = 0;  // the first one that ends beyond the place
#pragma unroll
        for (int step = WARP / 2; step > 0; step /= 2) {
            if (__shfl_sync(FULL_WARP, end, list + step - 1) <= place) list += step;
        }
        const Int64 found = __shfl_sync(FULL_WARP, shift, list);
        if (place >= total) continue;
        const int here = (int)(found & 1);
        const Int64 edge = place + (found >> 1);
        const Id label = groups.other_labels[here][groups.neighbors[here][edge]];
        table.add(label, weight_of_edge<Weighted>(groups.weights[here], edge), slots);
    }
}

template <class Id, bool Weighted, class Team, class AnyTable>
__device__ void add_members(const Groups<Id>& groups, Int64 cluster, const Team& team, const AnyTable& table) {
    const Int64 start = groups.starts[cluster], size = groups.sizes[cluster];
    // As many members a warp as keep all warps busy.
    constexpr int warps = Team::size / WARP;
    Int64 step = (size + warps - 1) / warps;
    if (step > WARP) step = WARP;
    for (Int64 k = team.rank() / WARP * step; k < size; k += warps * step) {
        const Int64 member = k + lane_of_thread();
        int side = 0;
        Int64 first = 0, length = 0;
        if (lane_of_thread() < step && member < size) {
            const Int64 node = groups.members[start + member];
            side = node >= groups.num_users;
            const Int64 own = side ? node - groups.num_users : node;
            first = groups.offsets[side][own];
            length = groups.offsets[side][own + 1] - first;
        }
        add_lists<Id, Weighted>(groups, side, first, length, table, table.slots);
    }
}

// The best merge among the labels at the slots first .. last - 1, which are left empty; the same loop for all lanes of a
// warp, since they make offers together.
template <class Id, class AnyTable>
__device__ BestMerge<Id> take_merges(
    const Merges<Id>& merges, Id cluster, const AnyTable& table, Int64 first, Int64 last, int rank, int size
) {
    BestMerge<Id> found = no_merge<Id>();
    for (Int64 base = first + (rank - lane_of_thread()); base < last; base += size) {
        const Int64 slot = base + lane_of_thread();
        Id label = (Id)NONE;
        double strength = 0;
        if (slot < last) {
            label = table.labels[slot];
            if (label != (Id)NONE) {
                strength = (double)(Int64)table.sums[slot];
                table.labels[slot] = (Id)NONE;
                table.sums[slot] = 0;
            }
        }
        bool useful = false;
        Word word = 0;
        if (label != (Id)NONE && label != cluster) {
            // Volumes can only lower a gain.
            useful = merges.offering && merges.states[label] != CHANGED && order_of(strength) >= merges.bounds[label];
            if (useful || strength >= found.bound) {
                const double gain = merges.gain(cluster, label, strength);
                found.consider(gain, label);
                word = order_of(gain);
                useful = useful && word >= merges.bounds[label];
                if (useful) {
                    const Word before = merges.raise(label, word);
                    if (word > before) merges.partners[label] = (Id)NONE;
                    useful = word >= before;
                }
            }
        }
        if (!merges.offering) continue;
        const Int64 place = join_list(useful, merges.num_offers);
        if (!useful) continue;
        if (place < merges.room) {
            merges.offers[2 * place] = label;
            merges.offers[2 * place + 1] = cluster;
            merges.offered[place] = word;
        } else {
            merges.states[label] = MISSED;
        }
    }
    return found;
}

#define BACO_GROUPS                                                                                         \
    const Groups<Id> groups {                                                                               \
        members, starts, sizes, ends, num_users, {user_offsets, item_offsets}, {user_neighbors, item_neighbors}, \
            {user_weights, item_weights}, {item_labels, user_labels}                                        \
    }
#define BACO_MERGES                                                                                                \
    const Merges<Id> merges {                                                                                      \
        volumes, penalty, states, partners, best, bounds, offering != 0, offers, offered, &counts[OFFERS], room    \
    }

// The best merges of clusters of few edges: those on `short_list` to a warp each, on `middle_list` to a thread block.
template <class Id, bool Weighted>
__global__ void __launch_bounds__(THREADS, 3) merges_of_clusters(
    const Id* short_list, const Id* middle_list, Int64* counts, int pass, const Id* members, const Int64* starts,
    const Int64* sizes, const Int64* ends, Int64 num_users, const Int64* user_offsets, const Id* user_neighbors,
    const Int64* user_weights, const Int64* item_offsets, const Id* item_neighbors, const Int64* item_weights,
    const Id* user_labels, const Id* item_labels, const Int64* costs, const Int64* volumes, double penalty,
    unsigned char* states, Id* partners, Word* best, Word* bounds, int offering, Id* offers, Word* offered, Int64 room
) {
    typedef typename SharedSum<Weighted>::type Sum;
    constexpr int slots = SharedSlots<Id, Weighted>::block;
    __shared__ __align__(16) Id table_labels[slots];
    __shared__ __align__(16) Sum table_sums[slots];
    BACO_GROUPS;
    BACO_MERGES;
    const Table<Id, Sum> all{table_labels, table_sums, slots};
    all.clear(threadIdx.x, THREADS);
    __syncthreads();
    const Int64 num_middle = counts[pass * SECOND_PASS + MIDDLE], num_short = counts[pass * SECOND_PASS + SHORT];
    const BlockTeam<Id> team{table_sums};
    for (Int64 k = blockIdx.x; k < num_middle; k += gridDim.x) {
        const Id cluster = middle_list[k];
        const Table<Id, Sum> table{table_labels, table_sums, slots_for(costs[cluster])};
        add_members<Id, Weighted>(groups, cluster, team, table);
        __syncthreads();
        BestMerge<Id> found = take_merges(merges, cluster, table, 0, table.slots, (int)threadIdx.x, THREADS);
        found = best_merge_of_warp(found);
        // The table is empty, and serves the warps to tell the first one what they have found.
        BestMerge<Id>* const warps = (BestMerge<Id>*)table_sums;
        __syncthreads();
        if (lane_of_thread() == 0) warps[threadIdx.x / WARP] = found;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int warp = 1; warp < BACO_WARPS; ++warp) found.join(warps[warp]);
            partners[cluster] = found.best.label;
            best[cluster] = order_of(found.best.score);
            bounds[cluster] = order_of(found.bound);
        }
        __syncthreads();
        if (threadIdx.x < sizeof(BestMerge<Id>) * BACO_WARPS / sizeof(Sum)) table_sums[threadIdx.x] = 0;
        __syncthreads();
    }
    __syncthreads();
    const int warp = threadIdx.x / WARP;
    constexpr int own_slots = slots / BACO_WARPS;
    for (Int64 k = (Int64)blockIdx.x * BACO_WARPS + warp; k < num_short; k += (Int64)gridDim.x * BACO_WARPS) {
        const Id cluster = short_list[k];
        const Table<Id, Sum> table{
            table_labels + warp * own_slots, table_sums + warp * own_slots, slots_for(costs[cluster])
        };
        add_members<Id, Weighted>(groups, cluster, WarpTeam<Id>(), table);
        __syncwarp();
        BestMerge<Id> found = take_merges(merges, cluster, table, 0, table.slots, lane_of_thread(), WARP);
        found = best_merge_of_warp(found);
        if (lane_of_thread() == 0) {
            partners[cluster] = found.best.label;
            best[cluster] = order_of(found.best.score);
            bounds[cluster] = order_of(found.bound);
        }
        __syncwarp();
    }
}

// The hubs of a round, and their tables. A wave has those whose tables begin at the same multiple of `wave_slots`, as
// all tables together may take more memory than there is.
struct Hub {
    Int64 number, cluster, slots, first_slot, first_piece, pieces;
};

template <class Id>
__device__ __forceinline__ Hub hub_of_piece(
    const Id* hubs, const Int64* first_pieces, const Int64* first_slots, const Int64* costs, Int64 num_hubs,
    Int64 num_clusters, Int64 piece
) {
    Int64 low = 0, high = num_hubs;  // the last hub that begins at the piece or before
    while (high - low > 1) {
        const Int64 middle = (low + high) / 2;
        (first_pieces[middle] <= piece ? low : high) = middle;
    }
    const Int64 cost = costs[hubs[low]];
    return Hub{
        low, (Int64)hubs[low], slots_for(cost < num_clusters ? cost : num_clusters), first_slots[low], first_pieces[low],
        (cost + PIECE - 1) / PIECE
    };
}

// Adds up the edges of hubs, a piece of PIECE edges a warp.
template <class Id, bool Weighted>
__global__ void __launch_bounds__(THREADS, 4) add_hubs(
    const Id* hubs, const Int64* first_pieces, const Int64* first_slots, const Int64* counts, int pass, Int64 wave,
    Int64 wave_slots, Int64 num_clusters, Id* hub_labels, Int64* hub_sums, const Id* members, const Int64* starts,
    const Int64* sizes, const Int64* ends, Int64 num_users, const Int64* user_offsets, const Id* user_neighbors,
    const Int64* user_weights, const Int64* item_offsets, const Id* item_neighbors, const Int64* item_weights,
    const Id* user_labels, const Id* item_labels, const Int64* costs
) {
    BACO_GROUPS;
    const Int64 packed = counts[pass * SECOND_PASS + HUBS];
    const Int64 num_pieces = packed & (((Int64)1 << PIECE_BITS) - 1);
    for (Int64 piece = index_of_thread() / WARP; piece < num_pieces; piece += threads_in_grid() / WARP) {
        const Hub hub =
            hub_of_piece(hubs, first_pieces, first_slots, costs, packed >> PIECE_BITS, num_clusters, piece);
        if (hub.first_slot / wave_slots != wave) continue;
        const Int64 begin = hub.first_slot % wave_slots;
        const Table<Id, Int64> table{hub_labels + begin, hub_sums + begin, hub.slots};
        const Int64 start = groups.starts[hub.cluster], stop = start + groups.sizes[hub.cluster];
        const Int64 base = start == 0 ? 0 : ends[start - 1];
        const Int64 from = base + (piece - hub.first_piece) * PIECE, to = from + PIECE;
        Int64 low = start, high = stop;  // the first member whose edges end beyond the piece's beginning
        while (low < high) {
            const Int64 middle = (low + high) / 2;
            if (ends[middle] <= from) low = middle + 1;
            else high = middle;
        }
        for (Int64 k = low; k < stop; k += WARP) {
            const Int64 member = k + lane_of_thread();
            int side = 0;
            Int64 first = 0, length = 0, end = to;
            if (member < stop) {
                const Int64 node = members[member];
                side = node >= num_users;
                first = side ? item_offsets[node - num_users] : user_offsets[node];
                const Int64 begins = member == 0 ? 0 : ends[member - 1];
                end = ends[member];
                const Int64 here = begins < from ? from : begins;
                first += here - begins;
                length = (end < to ? end : to) - here;
                if (length < 0) length = 0;
            }
            add_lists<Id, Weighted>(groups, side, first, length, table, table.slots);
            if (__shfl_sync(FULL_WARP, end, WARP - 1) >= to) break;
        }
    }
}

// The best merges of hubs, as far as every piece of a table has them: they go to `best` and `bounds`, and which label it
// is to `piece_labels` and `piece_words`. The tables are left empty.
template <class Id>
__global__ void __launch_bounds__(THREADS, 3) merges_of_hubs(
    const Id* hubs, const Int64* first_pieces, const Int64* first_slots, Int64* counts, int pass, Int64 wave,
    Int64 wave_slots, Int64 num_clusters, Id* hub_labels, Int64* hub_sums, const Int64* costs, const Int64* volumes,
    double penalty, unsigned char* states, Id* partners, Word* best, Word* bounds, int offering, Id* offers,
    Word* offered, Int64 room, Id* piece_hubs, Id* piece_labels, Word* piece_words
) {
    BACO_MERGES;
    const Int64 packed = counts[pass * SECOND_PASS + HUBS];
    const Int64 num_pieces = packed & (((Int64)1 << PIECE_BITS) - 1);
    for (Int64 piece = index_of_thread() / WARP; piece < num_pieces; piece += threads_in_grid() / WARP) {
        const Hub hub =
            hub_of_piece(hubs, first_pieces, first_slots, costs, packed >> PIECE_BITS, num_clusters, piece);
        if (hub.first_slot / wave_slots != wave) continue;
        const Int64 begin = hub.first_slot % wave_slots;
        const Table<Id, Int64> table{hub_labels + begin, hub_sums + begin, hub.slots};
        const Int64 part = (hub.slots + hub.pieces - 1) / hub.pieces;
        const Int64 first = (piece - hub.first_piece) * part, last = first + part;
        BestMerge<Id> found = take_merges(
            merges, (Id)hub.cluster, table, first, last < hub.slots ? last : hub.slots, lane_of_thread(), WARP
        );
        found = best_merge_of_warp(found);
        if (lane_of_thread() == 0) {
            const Word word = order_of(found.best.score);
            merges.raise(hub.cluster, word);
            atomicMax(&bounds[hub.cluster], order_of(found.bound));
            piece_hubs[piece] = (Id)hub.cluster;
            piece_labels[piece] = found.best.label;
            piece_words[piece] = word;
        }
    }
}
