// Exact sums of integers: volumes of labels, weight inside clusters. Atomics of integers add up alike in any order.
#include "common.cuh"

// sums[labels[i]] += values[i]; a label below zero counts nowhere.
template <class Id>
__global__ void __launch_bounds__(THREADS) sums_by_label(
    const Id* labels, const Int64* values, Int64 count, Int64* sums
) {
    const Int64 i = index_of_thread();
    if (i < count && labels[i] >= 0) add_exactly(&sums[labels[i]], values[i]);
}

// Carries the weights of `count` nodes that may have changed label to their new clusters; `previous` has the labels
// before.
template <class Id>
__global__ void __launch_bounds__(THREADS) move_volumes(
    const Int64* nodes, Int64 count, const Id* previous, const Id* labels, const Int64* node_weights, Int64* volumes
) {
    for (Int64 place = index_of_thread(); place < count; place += threads_in_grid()) {
        const Int64 node = nodes[place];
        const Id before = previous[place];
        const Id after = labels[node];
        if (before == after) continue;
        add_exactly(&volumes[before], -node_weights[node]);
        add_exactly(&volumes[after], node_weights[node]);
    }
}

// The weight of the edges whose two ends share a label: a piece of the edges a warp, whatever nodes they are of, and one
// atomic a warp.
template <class Id, bool Weighted>
__global__ void __launch_bounds__(THREADS) weight_within(
    const Int64* offsets, const Id* neighbors, const Int64* weights, Int64 num_nodes, const Id* labels,
    const Id* other_labels, Int64* within
) {
    constexpr Int64 piece = BACO_BLOCK_SLOTS;
    Int64 sum = 0;
    const Int64 first = offsets[0], last = offsets[num_nodes];
    for (Int64 k = index_of_thread() / WARP; first + k * piece < last; k += threads_in_grid() / WARP) {
        const Int64 from = first + k * piece, to = from + piece < last ? from + piece : last;
        Int64 low = 0, high = num_nodes;  // the last node whose edges begin at the piece or before
        while (high - low > 1) {
            const Int64 middle = (low + high) / 2;
            (offsets[middle] <= from ? low : high) = middle;
        }
        for (Int64 begin = from, node = low; begin < to; ++node) {
            const Int64 next = offsets[node + 1], end = next < to ? next : to;
            const Id own = labels[node];
            for (Int64 edge = begin + lane_of_thread(); edge < end; edge += WARP) {
                if (other_labels[neighbors[edge]] == own) sum += weight_of_edge<Weighted>(weights, edge);
            }
            if (end > begin) begin = end;
        }
    }
    sum = warp_sum(sum);
    if (lane_of_thread() == 0 && sum != 0) add_exactly(within, sum);
}
