// Blocks and anchors, chosen by a hash of (stream, node): the same on every device, for any number of threads.
#include "candidate.cuh"

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

// Holding rows: the sides whose bit `held` has keep theirs. Arrays of both sides have num_labels entries of users, then as
// many of items. A label that no user bears is no candidate for users, which its volume of items says by its sign
// (candidate.cuh), and so for items.
struct Sides {
    int held;
    Int64 num_users, num_items;
    Word user_stream, item_stream;

    __device__ __forceinline__ bool has(Int64 node) const { return node < num_users + num_items && held >> side(node) & 1; }
    __device__ __forceinline__ int side(Int64 node) const { return node >= num_users; }
    __device__ __forceinline__ Int64 own(Int64 node) const { return side(node) ? node - num_users : node; }
    __device__ __forceinline__ Word hash(Int64 node) const {
        return node_hash(side(node) ? item_stream : user_stream, own(node));
    }

    template <class Id>
    __device__ __forceinline__ Int64 place(Int64 node, const Id* user_labels, const Id* item_labels, Int64 num_labels) const {
        return side(node) ? num_labels + item_labels[own(node)] : user_labels[own(node)];
    }
};

// Nobody holds anything yet, and no label is a candidate.
__global__ void __launch_bounds__(THREADS) begin_holding(
    int held, Int64 num_labels, Word* smallest, Int64* anchors, Int64* user_volumes, Int64* item_volumes
) {
    const Int64 i = index_of_thread();
    const int side = i >= num_labels;
    if (i >= 2 * num_labels || !(held >> side & 1)) return;
    smallest[i] = ~(Word)0;
    anchors[i] = NONE;
    Int64* const volume = side ? &user_volumes[i - num_labels] : &item_volumes[i];
    *volume = (Int64)((Word)*volume | MARK);
}

// The smallest hash among the members of every label.
template <class Id>
__global__ void __launch_bounds__(THREADS) smallest_hash(
    int held, Int64 num_users, Int64 num_items, Word user_stream, Word item_stream, const Id* user_labels,
    const Id* item_labels, Int64 num_labels, Word* smallest
) {
    const Sides sides{held, num_users, num_items, user_stream, item_stream};
    const Int64 node = index_of_thread();
    if (!sides.has(node)) return;
    atomicMin(&smallest[sides.place(node, user_labels, item_labels, num_labels)], sides.hash(node));
}

// The smallest id among the members that have it, of -1, the greatest word, and those; the label is a candidate.
template <class Id>
__global__ void __launch_bounds__(THREADS) anchor_of_label(
    int held, Int64 num_users, Int64 num_items, Word user_stream, Word item_stream, const Id* user_labels,
    const Id* item_labels, Int64 num_labels, const Word* smallest, Int64* anchors, Int64* user_volumes,
    Int64* item_volumes
) {
    const Sides sides{held, num_users, num_items, user_stream, item_stream};
    const Int64 node = index_of_thread();
    if (!sides.has(node)) return;
    const Int64 place = sides.place(node, user_labels, item_labels, num_labels);
    if (sides.hash(node) != smallest[place]) return;
    atomicMin((Word*)&anchors[place], (Word)sides.own(node));
    atomicAnd((Word*)(sides.side(node) ? &user_volumes[place - num_labels] : &item_volumes[place]), ~MARK);
}

// Volumes have no signs any more.
__global__ void __launch_bounds__(THREADS) end_holding(Int64 num_labels, Int64* user_volumes, Int64* item_volumes) {
    const Int64 label = index_of_thread();
    if (label >= num_labels) return;
    user_volumes[label] = (Int64)((Word)user_volumes[label] & ~MARK);
    item_volumes[label] = (Int64)((Word)item_volumes[label] & ~MARK);
}
