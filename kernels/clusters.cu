// Merging without a graph of clusters: best partners straight from the edges of clusters' members.
//
// Clusters bear the ids that they had when a level began; one that merges leaves its members to its keeper. Of every
// cluster is known: its best partner, what that gains, and a bound of what all others gain. Gains are kept as words in
// the order of the numbers (order_of), so that the greatest is an atomic away. They are the same from both sides: a
// cluster that has changed looks at its edges anew, and offers what it finds to those that have not. One whose partner
// is gone, and which is offered nothing above its bound, looks at its own edges too.
//
// Clusters go by the edges of their members: to a warp or a thread block with a shared table that cannot overflow, or,
// the hubs, in pieces to all warps, which add to tables in global memory. Such tables are empty before and after.
#include "candidate.cuh"
#include "table.cuh"

enum State : unsigned char { KNOWN, CHANGED, WAITING, MISSED };  // MISSED: an offer had no room

// Where in `counts` the kernels of a round count.
enum Count { SHORT, MIDDLE, HUBS, SLOTS, SECOND_PASS, OFFERS = 2 * SECOND_PASS, GROUPED, ALIVE, USER_ROWS, ITEM_ROWS, ROUND };

// Slots of the shared table of a thread block: half as many where each takes 16 bytes.
template <class Id, bool Weighted>
struct SharedSlots {
    static constexpr int bytes = sizeof(Id) + sizeof(typename SharedSum<Weighted>::type);
    static constexpr int block = bytes > 12 ? BACO_BLOCK_SLOTS / 2 : BACO_BLOCK_SLOTS;
};

constexpr Int64 PIECE = BACO_BLOCK_SLOTS;  // edges of a hub that a warp takes at a time
constexpr int PIECE_BITS = 36;             // the hubs are counted above those bits, and their pieces below

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

// Of the offers, and of what the pieces of hubs have found, the best ones name the partners: the smallest of equal gain.
template <class Id>
__global__ void __launch_bounds__(THREADS) accept_merges(
    const Int64* counts, int pass, const Id* offers, const Word* offered, Int64 room, const Id* piece_hubs,
    const Id* piece_labels, const Word* piece_words, const Word* best, Id* partners
) {
    Int64 num_offers = counts[OFFERS];
    if (pass != 0) num_offers = 0;
    if (num_offers > room) num_offers = room;
    const Int64 num_pieces = counts[pass * SECOND_PASS + HUBS] & (((Int64)1 << PIECE_BITS) - 1);
    for (Int64 k = index_of_thread(); k < num_offers + num_pieces; k += threads_in_grid()) {
        const bool offer = k < num_offers;
        const Int64 piece = k - num_offers;
        const Int64 cluster = offer ? offers[2 * k] : piece_hubs[piece];
        const Id label = offer ? offers[2 * k + 1] : piece_labels[piece];
        if ((offer ? offered[k] : piece_words[piece]) == best[cluster]) smallest_of(&partners[cluster], label);
    }
}

// A cluster that is to look at its edges joins the list of its length, and forgets what it knows.
template <class Id>
struct Lists {
    Id* lists[3];
    Int64* counts;
    Int64* first_pieces;
    Int64* first_slots;
    Int64 num_clusters;
    Int64 short_edges, middle_edges;

    __device__ __forceinline__ void join(bool joins, Int64 cluster, Int64 cost, Id* partners, Word* best, Word* bounds)
        const {
        const int list = !joins ? -1 : cost <= short_edges ? SHORT : cost <= middle_edges ? MIDDLE : HUBS;
        for (int l = SHORT; l <= MIDDLE; ++l) {
            const Int64 place = join_list(list == l, &counts[l]);
            if (list == l) lists[l][place] = (Id)cluster;
        }
        if (!joins) return;
        partners[cluster] = (Id)NONE;
        best[cluster] = bounds[cluster] = order_of(LEAST);
        if (list != HUBS) return;
        // One word counts hubs and pieces, so that they begin in the order of the list.
        const Word pieces = (Word)(cost + PIECE - 1) / PIECE;
        const Word packed = atomicAdd((Word*)&counts[HUBS], ((Word)1 << PIECE_BITS) + pieces);
        const Int64 hub = (Int64)(packed >> PIECE_BITS);
        lists[HUBS][hub] = (Id)cluster;
        first_pieces[hub] = (Int64)(packed & (((Word)1 << PIECE_BITS) - 1));
        const Int64 slots = slots_for(cost < num_clusters ? cost : num_clusters);
        first_slots[hub] = (Int64)atomicAdd((Word*)&counts[SLOTS], (Word)slots);
    }
};

#define BACO_LISTS(pass)                                                                                           \
    const Lists<Id> lists {                                                                                        \
        {short_list, middle_list, hubs}, counts + (pass) * SECOND_PASS, first_pieces, first_slots, num_clusters,  \
            short_edges, middle_edges                                                                             \
    }

// Where the members of every cluster will be, which clusters look at their edges, and whose partner is gone.
template <class Id>
__global__ void __launch_bounds__(THREADS) begin_round(
    Int64 size, const Int64* sizes, const Int64* costs, const int* rows, Int64* starts, Int64* filled,
    unsigned char* states, Id* partners, Word* best, Word* bounds, Id* short_list, Id* middle_list, Id* hubs,
    Int64* first_pieces, Int64* first_slots, Int64 num_clusters, Int64 short_edges, Int64 middle_edges, Int64* counts,
    Int64* pair_counts
) {
    BACO_LISTS(0);
    Int64 alive = 0, user_rows = 0, item_rows = 0;
    if (index_of_thread() < 4) pair_counts[index_of_thread()] = 0;
    for (Int64 base = index_of_thread() - lane_of_thread(); base < size; base += threads_in_grid()) {
        const Int64 cluster = base + lane_of_thread();
        const Int64 members = cluster < size ? sizes[cluster] : 0;
        Int64 end = members;
        for (int offset = 1; offset < WARP; offset *= 2) {
            const Int64 before = __shfl_sync(FULL_WARP, end, (lane_of_thread() + WARP - offset) % WARP);
            if (lane_of_thread() >= offset) end += before;
        }
        Int64 group = 0;
        if (lane_of_thread() == WARP - 1) group = (Int64)atomicAdd((Word*)&counts[GROUPED], (Word)end);
        group = __shfl_sync(FULL_WARP, group, WARP - 1);
        bool joins = false;
        if (members > 0) {
            starts[cluster] = group + end - members;
            filled[cluster] = 0;
            ++alive;
            user_rows += rows[cluster] & 1;
            item_rows += rows[cluster] >> 1;
            joins = states[cluster] == CHANGED;
            // No state becomes CHANGED here, or is that no more.
            if (!joins && partners[cluster] != (Id)NONE && states[partners[cluster]] == CHANGED) {
                states[cluster] = WAITING;
                partners[cluster] = (Id)NONE;
                best[cluster] = order_of(LEAST);
            }
        }
        lists.join(joins, cluster, members > 0 ? costs[cluster] : 0, partners, best, bounds);
    }
    alive = warp_sum(alive), user_rows = warp_sum(user_rows), item_rows = warp_sum(item_rows);
    if (lane_of_thread() == 0 && alive > 0) {
        add_exactly(&counts[ALIVE], alive);
        add_exactly(&counts[USER_ROWS], user_rows);
        add_exactly(&counts[ITEM_ROWS], item_rows);
    }
}

// The clusters whose partner is gone, and which no offer has helped, look at their own edges.
template <class Id>
__global__ void __launch_bounds__(THREADS) list_undecided(
    Int64 size, const Int64* sizes, const Int64* costs, const unsigned char* states, Id* partners, Word* best,
    Word* bounds, Id* short_list, Id* middle_list, Id* hubs, Int64* first_pieces, Int64* first_slots,
    Int64 num_clusters, Int64 short_edges, Int64 middle_edges, Int64* counts
) {
    BACO_LISTS(1);
    for (Int64 base = index_of_thread() - lane_of_thread(); base < size; base += threads_in_grid()) {
        const Int64 cluster = base + lane_of_thread();
        bool joins = false;
        if (cluster < size && sizes[cluster] > 0) {
            const unsigned char state = states[cluster];
            joins = state == MISSED || (state == WAITING && best[cluster] <= bounds[cluster]);
        }
        lists.join(joins, cluster, joins ? costs[cluster] : 0, partners, best, bounds);
    }
}

// Sizes, edges and rows (1 for users, 2 for items) of the clusters that nodes are in, which begin at 0. Clusters that a
// node has left or joined since `before` have changed.
template <class Id>
__global__ void __launch_bounds__(THREADS) size_clusters(
    Int64 num_users, Int64 num_items, const Id* user_labels, const Id* item_labels, const Id* users_before,
    const Id* items_before, const Int64* user_offsets, const Int64* item_offsets, Int64* sizes, Int64* costs, int* rows,
    unsigned char* states
) {
    for (Int64 node = index_of_thread(); node < num_users + num_items; node += threads_in_grid()) {
        const int side = node >= num_users;
        const Int64 own = side ? node - num_users : node;
        const Int64* offsets = side ? item_offsets : user_offsets;
        const Id label = (side ? item_labels : user_labels)[own];
        add_exactly(&sizes[label], 1);
        add_exactly(&costs[label], offsets[own + 1] - offsets[own]);
        if (!(rows[label] & (1 << side))) atomicOr(&rows[label], 1 << side);
        if (users_before == nullptr) continue;
        const Id before = (side ? items_before : users_before)[own];
        if (before != label) states[label] = states[before] = CHANGED;
    }
}

// Nodes take the labels of their clusters' keepers, and their places among the members of these.
template <class Id>
__global__ void __launch_bounds__(THREADS) group_members(
    Int64 num_users, Int64 num_items, const Id* keepers, const Int64* starts, Int64* filled, const Int64* user_offsets,
    const Int64* item_offsets, Id* user_labels, Id* item_labels, Id* members, Int64* lengths
) {
    for (Int64 node = index_of_thread(); node < num_users + num_items; node += threads_in_grid()) {
        const bool item = node >= num_users;
        const Int64 own = item ? node - num_users : node;
        const Int64* offsets = item ? item_offsets : user_offsets;
        Id& label = (item ? item_labels : user_labels)[own];
        const Id keeper = keepers[label];
        if (keeper != label) label = keeper;
        const Int64 place = starts[keeper] + (Int64)atomicAdd((Word*)&filled[keeper], (Word)1);
        members[place] = (Id)node;
        lengths[place] = offsets[own + 1] - offsets[own];
    }
}

// Every cluster that does not keep itself leaves all that it has to its keeper.
template <class Id>
__global__ void __launch_bounds__(THREADS) merge_clusters(
    Int64 size, const Id* keepers, Int64* sizes, Int64* costs, int* rows, Int64* volumes, unsigned char* states
) {
    for (Int64 cluster = index_of_thread(); cluster < size; cluster += threads_in_grid()) {
        const Int64 keeper = keepers[cluster];
        if (keeper == cluster || sizes[cluster] == 0) continue;
        add_exactly(&sizes[keeper], sizes[cluster]);
        add_exactly(&costs[keeper], costs[cluster]);
        atomicOr(&rows[keeper], rows[cluster]);
        add_exactly(&volumes[2 * keeper], volumes[2 * cluster]);
        add_exactly(&volumes[2 * keeper + 1], volumes[2 * cluster + 1]);
        sizes[cluster] = 0;
        states[cluster] = states[keeper] = CHANGED;
    }
}
