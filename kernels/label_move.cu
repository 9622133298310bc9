// The best label of every node of a block (MOVE), and the second-best label of every node of a side (SECOND).
//
// The score of a node x for a label c is  sum of its edge weights to c - penalty * w_x * V(c),  with labels and volumes
// of the other side, which stand still: nodes are independent. Nodes go by the length of their lists:
//   label_tiny     a thread a node, its labels in registers; the other nodes are handed on in three lists
//   label_warp     a warp a node, counting in a shared table that cannot overflow
//   label_block    a thread block a node, likewise
//   label_hub      a thread block a node; where its distinct labels overflow the shared table, it counts once more in
//                  the thread block's table in global memory, which has room for all of them
// A block is nodes[range[0]] .. nodes[range[1] - 1]. Its range and the lengths of the three lists stay on the device, and
// the threads of a grid share a list whatever its length: no launch waits for the host to learn a size.
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
    Id* output;  // by place in `nodes`. MOVE: the label before; SECOND: the second label
    Scoring<Id> scoring;

    __device__ __forceinline__ Int64 node(Int64 place) const { return nodes == nullptr ? place : nodes[place]; }

    // A node that holds its label for the others does not move.
    template <Task task>
    __device__ __forceinline__ bool held(Int64 node, Id own) const {
        return task == MOVE && scoring.marks != nullptr && scoring.marks[own] == node;
    }

    template <Task task>
    __device__ __forceinline__ void finish(Int64 place, Int64 node, Id best) {
        if constexpr (task == MOVE) {
            labels[node] = best;
        } else {
            output[place] = best;
        }
    }
};

// Returns what the weight inside clusters gains, which no one asks of a second label.
template <class Id, bool Weighted, Task task>
__device__ Int64 visit_alone(Visit<Id>& visit, Int64 place, Int64 node) {
    const Id own = visit.labels[node];
    if constexpr (task == MOVE) visit.output[place] = own;
    if (visit.template held<task>(node, own)) return 0;
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
        if (first_of_label && visit.scoring.template admits<task>(label[i], own)) {
            best.consider(visit.scoring.candidate(factor, label[i], strength));
        }
    }
    visit.template finish<task>(place, node, best.label);
    Int64 strength = 0;
#pragma unroll
    for (int i = 0; i < BACO_TINY_DEGREE; ++i) {
        if (label[i] == best.label) strength += weight[i];
    }
    return strength - own_strength;
}

// Adds the labels of a node's neighbors to a table; false in a thread that found it full.
template <class Id, bool Weighted, class Team, class AnyTable>
__device__ bool count_labels(
    const Visit<Id>& visit, Int64 node, const Team& team, const AnyTable& table, Int64 probes, const int* overflow
) {
    const Int64 end = visit.offsets[node + 1];
    for (Int64 edge = visit.offsets[node] + team.rank(); edge < end; edge += Team::size) {
        if (overflow != nullptr && *(volatile const int*)overflow) return false;
        const Id label = visit.other_labels[visit.neighbors[edge]];
        if (!table.add(label, weight_of_edge<Weighted>(visit.weights, edge), probes)) return false;
    }
    return true;
}

// Chooses among the labels that a table has counted; the gain is returned to the thread of rank 0, 0 to the others.
template <class Id, Task task, class Team, class AnyTable>
__device__ Int64 choose(Visit<Id>& visit, Int64 place, Int64 node, Id own, const Team& team, const AnyTable& table) {
    const Int64 own_strength = table.sum(own);
    const double factor = visit.scoring.factor(visit.node_weights[node]);
    Candidate<Id> best = visit.scoring.template start<task>(factor, own, own_strength);
    for (Int64 slot = team.rank(); slot < table.slots; slot += Team::size) {
        const Id label = table.labels[slot];
        if (label != (Id)NONE && visit.scoring.template admits<task>(label, own)) {
            best.consider(visit.scoring.candidate(factor, label, table.sums[slot]));
        }
    }
    best = team.best(best);
    if (team.rank() != 0) return 0;
    visit.template finish<task>(place, node, best.label);
    return task == MOVE ? table.sum(best.label) - own_strength : 0;
}

// A node with a table that has room for all its labels.
template <class Id, bool Weighted, Task task, class Team, class Sum>
__device__ Int64 visit_together(Visit<Id>& visit, Int64 place, const Team& team, Id* labels, Sum* sums) {
    const Int64 node = visit.node(place);
    const Id own = visit.labels[node];
    if (task == MOVE && team.rank() == 0) visit.output[place] = own;
    if (visit.template held<task>(node, own)) return 0;
    const Table<Id, Sum> table{labels, sums, slots_for(visit.offsets[node + 1] - visit.offsets[node])};
    team.wait();  // for those that still look at the node before
    table.clear(team.rank(), Team::size);
    team.wait();
    count_labels<Id, Weighted>(visit, node, team, table, table.slots, nullptr);
    team.wait();
    return choose<Id, task>(visit, place, node, own, team, table);
}

#define BACO_VISIT                                                                                                    \
    Visit<Id> visit {                                                                                                 \
        nodes, offsets, neighbors, weights, node_weights, labels, other_labels, output, {                             \
            marks, other_volumes, penalty                                                                             \
        }                                                                                                             \
    }

template <class Id, bool Weighted, Task task>
__global__ void __launch_bounds__(THREADS, 3) label_tiny(
    const Int64* nodes, const Int64* range, const Int64* offsets, const Id* neighbors, const Int64* weights,
    const Int64* node_weights, Id* labels, const Int64* marks, const Id* other_labels, const Int64* other_volumes,
    double penalty, Id* output, Int64* gained, Id* warp_list, Id* block_list, Id* hub_list, Int64* lengths
) {
    BACO_VISIT;
    Id* const lists[3] = {warp_list, block_list, hub_list};
    Int64 gain = 0;
    // The threads of a warp go on together, the ones beyond the end too: they join no list.
    for (Int64 first = range[0] + index_of_thread() - lane_of_thread(); first < range[1]; first += threads_in_grid()) {
        const Int64 place = first + lane_of_thread();
        int list = -1;
        if (place < range[1]) {
            const Int64 node = visit.node(place);
            const Int64 degree = offsets[node + 1] - offsets[node];
            if (degree <= BACO_TINY_DEGREE) {
                gain += visit_alone<Id, Weighted, task>(visit, place, node);
            } else {
                list = degree <= BACO_WARP_SLOTS / 2 ? 0 : degree <= BACO_BLOCK_SLOTS / 2 ? 1 : 2;
            }
        }
#pragma unroll
        for (int l = 0; l < 3; ++l) {
            const Int64 position = join_list(list == l, &lengths[l]);
            if (list == l) lists[l][position] = (Id)place;
        }
    }
    gain = warp_sum(gain);
    if (task == MOVE && lane_of_thread() == 0 && gain != 0) add_exactly(gained, gain);
}

template <class Id, bool Weighted, Task task>
__global__ void __launch_bounds__(THREADS, 4) label_warp(
    const Int64* nodes, const Int64* offsets, const Id* neighbors, const Int64* weights, const Int64* node_weights,
    Id* labels, const Int64* marks, const Id* other_labels, const Int64* other_volumes, double penalty, Id* output,
    Int64* gained, const Id* list, const Int64* length
) {
    __shared__ Id table_labels[BACO_WARPS * BACO_WARP_SLOTS];
    __shared__ typename SharedSum<Weighted>::type table_sums[BACO_WARPS * BACO_WARP_SLOTS];
    BACO_VISIT;
    const WarpTeam<Id> team;
    const int warp = threadIdx.x / WARP;
    Int64 gain = 0;
    for (Int64 k = (Int64)blockIdx.x * BACO_WARPS + warp; k < *length; k += (Int64)gridDim.x * BACO_WARPS) {
        gain += visit_together<Id, Weighted, task>(
            visit, list[k], team, table_labels + warp * BACO_WARP_SLOTS, table_sums + warp * BACO_WARP_SLOTS
        );
    }
    if (task == MOVE && team.rank() == 0 && gain != 0) add_exactly(gained, gain);
}

template <class Id, bool Weighted, Task task>
__global__ void __launch_bounds__(THREADS, 4) label_block(
    const Int64* nodes, const Int64* offsets, const Id* neighbors, const Int64* weights, const Int64* node_weights,
    Id* labels, const Int64* marks, const Id* other_labels, const Int64* other_volumes, double penalty, Id* output,
    Int64* gained, const Id* list, const Int64* length
) {
    __shared__ Id table_labels[BACO_BLOCK_SLOTS];
    __shared__ typename SharedSum<Weighted>::type table_sums[BACO_BLOCK_SLOTS];
    __shared__ Candidate<Id> warps[BACO_WARPS];
    BACO_VISIT;
    const BlockTeam<Id> team{warps};
    Int64 gain = 0;
    for (Int64 k = blockIdx.x; k < *length; k += gridDim.x) {
        gain += visit_together<Id, Weighted, task>(visit, list[k], team, table_labels, table_sums);
    }
    if (task == MOVE && team.rank() == 0 && gain != 0) add_exactly(gained, gain);
}

// `hub_labels` and `hub_sums` hold a table of `hub_slots` slots for every thread block, enough for half as many labels
// as any hub has edges or there are labels; `probes` is how far a label looks for a slot in the shared table.
template <class Id, bool Weighted, Task task>
__global__ void __launch_bounds__(THREADS, 4) label_hub(
    const Int64* nodes, const Int64* offsets, const Id* neighbors, const Int64* weights, const Int64* node_weights,
    Id* labels, const Int64* marks, const Id* other_labels, const Int64* other_volumes, double penalty, Id* output,
    Int64* gained, const Id* list, const Int64* length, Int64 num_labels, Int64 probes, Id* hub_labels,
    Int64* hub_sums, Int64 hub_slots
) {
    __shared__ Id table_labels[BACO_BLOCK_SLOTS];
    __shared__ typename SharedSum<Weighted>::type table_sums[BACO_BLOCK_SLOTS];
    __shared__ Candidate<Id> warps[BACO_WARPS];
    __shared__ int overflow;
    BACO_VISIT;
    const BlockTeam<Id> team{warps};
    Int64 gain = 0;
    for (Int64 k = blockIdx.x; k < *length; k += gridDim.x) {
        const Int64 place = list[k];
        const Int64 node = visit.node(place);
        const Id own = labels[node];
        if (task == MOVE && team.rank() == 0) output[place] = own;
        if (visit.template held<task>(node, own)) continue;
        const Table<Id, typename SharedSum<Weighted>::type> near{table_labels, table_sums, BACO_BLOCK_SLOTS};
        const Int64 degree = offsets[node + 1] - offsets[node];
        team.wait();
        if (team.rank() == 0) overflow = degree >> 32 != 0;  // more edges than 32 bits count
        near.clear(team.rank(), team.size);
        team.wait();
        // Threads that find the table full say so, and the others stop early; all of them look once all have stopped.
        if (!count_labels<Id, Weighted>(visit, node, team, near, probes, &overflow)) atomicExch(&overflow, 1);
        team.wait();
        if (overflow) {
            const Int64 slots = slots_for(degree < num_labels ? degree : num_labels);
            const Table<Id, Int64> far{hub_labels + blockIdx.x * hub_slots, hub_sums + blockIdx.x * hub_slots, slots};
            far.clear(team.rank(), team.size);
            team.wait();
            count_labels<Id, Weighted>(visit, node, team, far, slots, nullptr);
            team.wait();
            gain += choose<Id, task>(visit, place, node, own, team, far);
        } else {
            gain += choose<Id, task>(visit, place, node, own, team, near);
        }
    }
    if (task == MOVE && team.rank() == 0 && gain != 0) add_exactly(gained, gain);
}
