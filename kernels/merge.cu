// The graph of clusters: which pairs an edge joins, and the merge that gains every cluster most.
#include "candidate.cuh"

// The pair of clusters that every edge joins, as smaller * num_clusters + larger; places of edges inside a cluster, and
// places of no edge, keep what they hold. Row r has the places begins[r] .. ends[r] - 1. In a graph that lists every
// edge from both ends (Symmetric) the one from the smaller cluster counts. A warp a row.
template <class Id, bool Symmetric>
__global__ void __launch_bounds__(THREADS) pairs_of_edges(
    const Int64* begins, const Int64* ends, Int64 num_rows, const Id* neighbors, const Id* row_clusters,
    const Id* neighbor_clusters, Int64 num_clusters, Int64* pairs
) {
    for (Int64 row = index_of_thread() / WARP; row < num_rows; row += threads_in_grid() / WARP) {
        const Int64 here = row_clusters[row];
        for (Int64 place = begins[row] + lane_of_thread(); place < ends[row]; place += WARP) {
            const Int64 there = neighbor_clusters[neighbors[place]];
            if (here < there) {
                pairs[place] = here * num_clusters + there;
            } else if (!Symmetric && there < here) {
                pairs[place] = there * num_clusters + here;
            }
        }
    }
}

// For every cluster the neighbor whose merge gains most (ties to the smallest id), and the gain; -1 and
// minus infinity for a cluster without neighbors. A warp a cluster.
template <class Id>
__global__ void __launch_bounds__(THREADS) best_partners(
    const Int64* rows, const Int64* counts, Int64 num_clusters, const Id* neighbors, const Int64* weights,
    const Int64* user_volumes, const Int64* item_volumes, double penalty, Int64* partner, double* gain
) {
    for (Int64 cluster = index_of_thread() / WARP; cluster < num_clusters; cluster += threads_in_grid() / WARP) {
        const double users = (double)user_volumes[cluster];
        const double items = (double)item_volumes[cluster];
        Candidate<Int64> best{LEAST, NONE};
        const Int64 end = rows[cluster] + counts[cluster];
        for (Int64 place = rows[cluster] + lane_of_thread(); place < end; place += WARP) {
            const Int64 other = neighbors[place];
            // Both products are symmetric in the two clusters, so both see the same gain to the last bit.
            const double crossing = __dadd_rn(
                __dmul_rn(users, (double)item_volumes[other]), __dmul_rn(items, (double)user_volumes[other])
            );
            const double value = __dsub_rn((double)weights[place], __dmul_rn(penalty, crossing));
            best.consider(Candidate<Int64>{value, other});
        }
        best = best_of_warp(best);
        if (lane_of_thread() == 0) {
            partner[cluster] = best.label;
            gain[cluster] = best.score;
        }
    }
}
