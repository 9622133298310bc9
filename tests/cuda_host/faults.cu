// Kernels with faults, which the host build must show.
__global__ void divergent_barrier(int* result) {
    if (threadIdx.x != 5) __syncthreads();
    result[0] = 1;
}

__global__ void mixed_barriers(int* result) {
    if (threadIdx.x % 2) {
        __syncwarp();
    } else {
        __ballot_sync(0xffffffffu, 1);
    }
    result[0] = 1;
}

__global__ void part_of_a_warp(int* result) { result[0] = __ballot_sync(1u, 1); }

__global__ void last_one_wins(int* result) {
    atomicAdd(&result[1], 1);
    result[0] = threadIdx.x;
}

__global__ void lost_update(int* result) {
    const int before = result[0];
    atomicAdd(&result[1], 1);
    result[0] = before + 1;
}
