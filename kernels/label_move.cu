// The best label of every node of a block (MOVE), and the second-best label of every node of a side (SECOND).
//
// The score of a node x for a label c is  sum of its edge weights to c - penalty * w_x * V(c),  with labels and volumes
// of the other side, which stand still: nodes are independent, and the volumes of their own side follow at once.
//   label_tiny     a thread a node, its labels in registers; longer lists are handed on
//   label_long     hubs: a thread block a node; where its distinct labels overflow the shared table, it counts once more
//                  in a table of its own in global memory, which has room for all of them;
//                  long lists: a thread block a node, and a shared table that cannot overflow;
//                  middle ones: a warp a node, likewise; up to 32 edges without weights: a lane an edge, and no table
// A block is nodes[range[0]] .. nodes[range[1] - 1]. Its range and the lengths of the lists stay on the device, and the
// threads of a grid share a list whatever its length: no launch waits for the host to learn a size.
#include "candidate.cuh"
#include "table.cuh"

// Everything about one side, as the kernels get it.
template <class Id>
struct Visit {
    const Int64* nodes;  // null for all nodes of the side
    const Int64* offsets;
    const Id* neighbors;
    const Int64* weights;
    const Int64* node_weights;
    Id* labels;
    const Id* other_labels;
    Int64* volumes;        // MOVE: those of the nodes' own side
    const Int64* anchors;  // MOVE: null, or for every label the node that holds it for the others
    Id* output;            // SECOND: the second label, by place in `nodes`
    Scoring<Id> scoring;
    Int64 gained, moved;  // MOVE: what the weight inside clusters gains, and how many nodes take another label

    __device__ __forceinline__ Int64 node(Int64 place) const { return nodes == nullptr ? place : nodes[place]; }

    // A node that holds its label for the others does not move.
    template <Task task>
    __device__ __forceinline__ bool held(Int64 node, Id own) const {
        return task == MOVE && anchors != nullptr && anchors[own] == node;
    }

    template <Task task>
    __device__ __forceinline__ void finish(Int64 place, Int64 node, Id own, Id best, Int64 gain) {
        if constexpr (task == MOVE) {
            if (best == own) return;
            labels[node] = best;
            add_exactly(&volumes[own], -node_weights[node]);
            add_exactly(&volumes[best], node_weights[node]);
            gained += gain;
            ++moved;
        } else {
            output[place] = best;
        }
    }

    template <Task task>
    __device__ __forceinline__ void add_totals(Int64* totals) {
        if constexpr (task == MOVE) {
            const Int64 gain = warp_sum(gained), movers = warp_sum(moved);
            if (lane_of_thread() != 0 || movers == 0) return;
            add_exactly(&totals[0], gain);
            add_exactly(&totals[1], movers);
        }
    }
};

template <class Id, bool Weighted, Task task>
__device__ void visit_alone(Visit<Id>& visit, Int64 place, Int64 node) {
    const Id own = visit.labels[node];
    if (visit.template held<task>(node, own)) return;
    const Int64 first = visit.offsets[node];
    const Int64 degree = visit.offsets[node + 1] - first;
    Id label[BACO_TINY_DEGREE];
    Int64 weight[BACO_TINY_DEGREE];
    Int64 own_strength = 0;
#pragma unroll
    for (int i = 0; i < BACO_TINY_DEGREE; ++i) {
        const bool there = i < degree;
        label[i] = there ? visit.other_labels[visit.neighbors[first + i]] : (Id)NONE;
        weight[i] = there ? weight_of_edge<Weighted>(visit.weights, first + i) : 0;
        if (label[i] == own) own_strength += weight[i];
    }
    const double factor = visit.scoring.factor(visit.node_weights[node]);
    Candidate<Id> best = visit.scoring.template start<task>(factor, own, own_strength);
#pragma unroll
    for (int i = 0; i < BACO_TINY_DEGREE; ++i) {
        bool first_of_label = label[i] != (Id)NONE;
        Int64 strength = 0;
#pragma unroll
        for (int j = 0; j < BACO_TINY_DEGREE; ++j) {
            if (label[j] == label[i]) {
                strength += weight[j];
                first_of_label = first_of_label && j >= i;
            }
        }
        if (first_of_label) visit.scoring.weigh(best, factor, own, label[i], strength);
    }
    Int64 strength = 0;
#pragma unroll
    for (int i = 0; i < BACO_TINY_DEGREE; ++i) {
        if (label[i] == best.label) strength += weight[i];
    }
    visit.template finish<task>(place, node, own, best.label, strength - own_strength);
}

// Adds the labels of a node's neighbors to a table; false in a thread that found it full.
template <class Id, bool Weighted, class Team, class AnyTable>
__device__ bool count_labels(
    const Visit<Id>& visit, Int64 first, Int64 end, const Team& team, const AnyTable& table, Int64 probes
) {
    for (Int64 edge = first + team.rank(); edge < end; edge += Team::size) {
        const Id label = visit.other_labels[visit.neighbors[edge]];
        if (!table.add(label, weight_of_edge<Weighted>(visit.weights, edge), probes)) return false;
    }
    return true;
}

// Chooses among the labels that a table has counted.
template <class Id, Task task, class Team, class AnyTable>
__device__ void choose(Visit<Id>& visit, Int64 place, Int64 node, Id own, const Team& team, const AnyTable& table) {
    const Int64 own_strength = table.sum(own);
    const double factor = visit.scoring.factor(visit.node_weights[node]);
    Candidate<Id> best = visit.scoring.template start<task>(factor, own, own_strength);
    for (Int64 slot = team.rank(); slot < table.slots; slot += Team::size) {
        const Id label = table.labels[slot];
        if (label != (Id)NONE) visit.scoring.weigh(best, factor, own, label, table.sums[slot]);
    }
    Int64 strength = 0;
    const Id found = team.best(best, table, strength);
    if (team.rank() == 0) visit.template finish<task>(place, node, own, found, strength - own_strength);
}

// A node with a table that has room for all its labels.
template <class Id, bool Weighted, Task task, class Team, class Sum>
__device__ void visit_together(Visit<Id>& visit, Int64 place, const Team& team, Id* labels, Sum* sums) {
    const Int64 node = visit.node(place);
    const Id own = visit.labels[node];
    if (visit.template held<task>(node, own)) return;
    const Int64 first = visit.offsets[node], end = visit.offsets[node + 1];
    const Table<Id, Sum> table{labels, sums, slots_for(end - first)};
    team.wait();  // for those that still look at the node before
    table.clear(team.rank(), Team::size);
    team.wait();
    count_labels<Id, Weighted>(visit, first, end, team, table, table.slots);
    team.wait();
    choose<Id, task>(visit, place, node, own, team, table);
}

// A node of at most 32 edges without weights: every lane has one, and knows the lanes that have the same label.
template <class Id, Task task>
__device__ void visit_matched(Visit<Id>& visit, Int64 place, Int64 node, Int64 first, int degree) {
    const Id own = visit.labels[node];
    if (visit.template held<task>(node, own)) return;
    const bool there = lane_of_thread() < degree;
    const Id label = there ? visit.other_labels[visit.neighbors[first + lane_of_thread()]] : (Id)NONE;
    const unsigned same = __match_any_sync(FULL_WARP, label);
    const Int64 own_strength = __popc(__ballot_sync(FULL_WARP, label == own));
    const double factor = visit.scoring.factor(visit.node_weights[node]);
    Candidate<Id> best = visit.scoring.template start<task>(factor, own, own_strength);
    // One of the lanes of a label speaks for all.
    const bool speaks = there && (same & ((1u << lane_of_thread()) - 1)) == 0;
    if (speaks) visit.scoring.weigh(best, factor, own, label, __popc(same));
    best = best_of_warp(best);
    const Int64 strength = __popc(__ballot_sync(FULL_WARP, label == best.label));
    if (lane_of_thread() == 0) visit.template finish<task>(place, node, own, best.label, strength - own_strength);
}

#define BACO_VISIT                                                                                                    \
    Visit<Id> visit {                                                                                                 \
        nodes, offsets, neighbors, weights, node_weights, labels, other_labels, volumes, anchors, output,             \
            {other_volumes, penalty}, 0, 0                                                                            \
    }

// `lengths` counts the nodes of the three lists, and the slots that the tables of hubs take, which begin at
// `hub_firsts`.
template <class Id, bool Weighted, Task task>
__global__ void __launch_bounds__(THREADS, 3) label_tiny(
    const Int64* nodes, const Int64* range, const Int64* offsets, const Id* neighbors, const Int64* weights,
    const Int64* node_weights, Id* labels, Int64* volumes, const Int64* anchors, const Id* other_labels,
    const Int64* other_volumes, double penalty, Id* output, Int64* totals, Id* warp_list, Id* block_list, Id* hub_list,
    Int64* hub_firsts, Int64 num_labels, Int64* lengths
) {
    BACO_VISIT;
    Id* const lists[3] = {warp_list, block_list, hub_list};
    // The threads of a warp go on together, the ones beyond the end too: they join no list.
    for (Int64 first = range[0] + index_of_thread() - lane_of_thread(); first < range[1]; first += threads_in_grid()) {
        const Int64 place = first + lane_of_thread();
        int list = -1;
        Int64 degree = 0;
        if (place < range[1]) {
            const Int64 node = visit.node(place);
            degree = offsets[node + 1] - offsets[node];
            if (degree <= BACO_TINY_DEGREE) {
                visit_alone<Id, Weighted, task>(visit, place, node);
            } else {
                list = degree <= BACO_WARP_SLOTS / 2 ? 0 : degree <= BACO_BLOCK_SLOTS / 2 ? 1 : 2;
            }
        }
#pragma unroll
        for (int l = 0; l < 3; ++l) {
            const Int64 position = join_list(list == l, &lengths[l]);
            if (list != l) continue;
            lists[l][position] = (Id)place;
            if (l == 2) {
                const Int64 slots = slots_for(degree < num_labels ? degree : num_labels);
                hub_firsts[position] = (Int64)atomicAdd((Word*)&lengths[3], (Word)slots);
            }
        }
    }
    visit.template add_totals<task>(totals);
}

// Tables of hubs begin at a slot below `wave_slots`, of a wave; other lists are of the first wave. `probes` is how far a
// label looks for a slot in the shared table.
template <class Id, bool Weighted, Task task>
__global__ void __launch_bounds__(THREADS, 4) label_long(
    const Int64* nodes, const Int64* offsets, const Id* neighbors, const Int64* weights, const Int64* node_weights,
    Id* labels, Int64* volumes, const Int64* anchors, const Id* other_labels, const Int64* other_volumes, double penalty,
    Id* output, Int64* totals, const Id* warp_list, const Id* block_list, const Id* hub_list, const Int64* hub_firsts,
    Int64 num_labels, const Int64* lengths, Int64 probes, Id* hub_labels, Int64* hub_sums, Int64 wave, Int64 wave_slots
) {
    typedef typename SharedSum<Weighted>::type Sum;
    __shared__ __align__(16) Id table_labels[BACO_BLOCK_SLOTS];
    __shared__ __align__(16) Sum table_sums[BACO_BLOCK_SLOTS];
    BACO_VISIT;
    const BlockTeam<Id> team{table_sums};
    for (Int64 k = blockIdx.x; k < lengths[2]; k += gridDim.x) {
        if (hub_firsts[k] / wave_slots != wave) continue;
        const Int64 place = hub_list[k], node = visit.node(place);
        const Id own = labels[node];
        if (visit.template held<task>(node, own)) continue;
        const Int64 first = offsets[node], end = offsets[node + 1];
        const Table<Id, Sum> near{table_labels, table_sums, BACO_BLOCK_SLOTS};
        team.wait();
        near.clear(team.rank(), team.size);
        team.wait();
        // Threads that find the table full stop; all of them look whether some have once all have.
        const bool counts = Weighted || (end - first) >> 32 == 0;  // edges that 32 bits count
        const bool full = !counts || !count_labels<Id, Weighted>(visit, first, end, team, near, probes);
        if (__syncthreads_or(full)) {
            const Int64 begin = hub_firsts[k] % wave_slots;
            const Int64 slots = slots_for(end - first < num_labels ? end - first : num_labels);
            const Table<Id, Int64> far{hub_labels + begin, hub_sums + begin, slots};
            far.clear(team.rank(), team.size);
            team.wait();
            count_labels<Id, Weighted>(visit, first, end, team, far, slots);
            team.wait();
            choose<Id, task>(visit, place, node, own, team, far);
        } else {
            choose<Id, task>(visit, place, node, own, team, near);
        }
    }
    if (wave == 0) {
        for (Int64 k = blockIdx.x; k < lengths[1]; k += gridDim.x) {
            visit_together<Id, Weighted, task>(visit, block_list[k], team, table_labels, table_sums);
        }
        __syncthreads();
        const int warp = threadIdx.x / WARP;
        for (Int64 k = (Int64)blockIdx.x * BACO_WARPS + warp; k < lengths[0]; k += (Int64)gridDim.x * BACO_WARPS) {
            const Int64 place = warp_list[k], node = visit.node(place);
            const Int64 first = offsets[node], degree = offsets[node + 1] - first;
            if (!Weighted && degree <= WARP) {
                visit_matched<Id, task>(visit, place, node, first, (int)degree);
            } else {
                visit_together<Id, Weighted, task>(
                    visit, place, WarpTeam<Id>(), table_labels + warp * BACO_WARP_SLOTS,
                    table_sums + warp * BACO_WARP_SLOTS
                );
            }
        }
    }
    visit.template add_totals<task>(totals);
}
