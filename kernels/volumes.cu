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

// The weight of the edges whose two ends share a label: a warp a node, one atomic a warp.
template <class Id, bool Weighted>
__global__ void __launch_bounds__(THREADS) weight_within(
    const Int64* offsets, const Id* neighbors, const Int64* weights, Int64 num_nodes, const Id* labels,
    const Id* other_labels, Int64* within
) {
    Int64 sum = 0;
    for (Int64 node = index_of_thread() / WARP; node < num_nodes; node += threads_in_grid() / WARP) {
        const Id own = labels[node];
        for (Int64 edge = offsets[node] + lane_of_thread(); edge < offsets[node + 1]; edge += WARP) {
            if (other_labels[neighbors[edge]] == own) sum += weight_of_edge<Weighted>(weights, edge);
        }
    }
    sum = warp_sum(sum);
    if (lane_of_thread() == 0 && sum != 0) add_exactly(within, sum);
}
