// Blocks and anchors, chosen by a hash of (stream, node): the same on every device, for any number of threads.
#include "common.cuh"

// The block of every node, and how many nodes each block gets; `sizes` begins at 0.
__global__ void __launch_bounds__(THREADS) block_of_node(
    Word stream, Int64 num_nodes, Word num_blocks, int* blocks, Int64* sizes
) {
    const Int64 node = index_of_thread();
    int block = -1;
    if (node < num_nodes) {
        block = (int)(node_hash(stream, node) % num_blocks);
        blocks[node] = block;
    }
    for (int b = 0; b < (int)num_blocks; ++b) join_list(block == b, &sizes[b]);
}

// Lists the nodes block by block, in no order within a block; `cursors` begins where each block does.
__global__ void __launch_bounds__(THREADS) deal_nodes(
    const int* blocks, Int64 num_nodes, Word num_blocks, Int64* cursors, Int64* nodes
) {
    const Int64 node = index_of_thread();
    const int block = node < num_nodes ? blocks[node] : -1;
    for (int b = 0; b < (int)num_blocks; ++b) {
        const Int64 place = join_list(block == b, &cursors[b]);
        if (block == b) nodes[place] = node;
    }
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
