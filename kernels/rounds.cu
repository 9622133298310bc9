// Rounds of merging: which clusters look at their edges, what they leave to each other, and whom they name.
//
// Clusters bear the ids that they had when a level began; one that merges leaves its members to its keeper. Of every
// cluster is known: its best partner, what that gains, and a bound of what all others gain. Gains are kept as words in
// the order of the numbers (order_of), so that the greatest is an atomic away.
#include "rounds.cuh"

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
