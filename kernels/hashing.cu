// Blocks and anchors, chosen by a hash of (stream, node): the same on every device, for any number of threads.
#include "common.cuh"

__global__ void __launch_bounds__(THREADS) block_of_node(Word stream, Int64 num_nodes, Word num_blocks, int* blocks) {
    const Int64 node = index_of_thread();
    if (node < num_nodes) blocks[node] = (int)(node_hash(stream, node) % num_blocks);
}

// The smallest hash among the members of every label. `smallest` begins at the greatest word.
template <class Id>
__global__ void __launch_bounds__(THREADS) smallest_hash(
    const Id* labels, Int64 num_nodes, Word stream, Word* smallest
) {
    const Int64 node = index_of_thread();
    if (node < num_nodes) atomicMin(&smallest[labels[node]], node_hash(stream, node));
}

// The smallest id among the members that have it. `anchors` begins at -1, which is the greatest word.
template <class Id>
__global__ void __launch_bounds__(THREADS) anchor_of_label(
    const Id* labels, Int64 num_nodes, Word stream, const Word* smallest, Int64* anchors
) {
    const Int64 node = index_of_thread();
    if (node < num_nodes && node_hash(stream, node) == smallest[labels[node]]) {
        atomicMin((Word*)&anchors[labels[node]], (Word)node);
    }
}
