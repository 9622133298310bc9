// A step of rows that are integers of 8 or 16 bits: RMSprop with one mean square a row, and values rounded at random.
// baco_gpu/tables/rowwise.py has the same in PyTorch, with every rounding in the same place.
//
// A warp takes a row. It reads the row's gradient three times, of which the last two come from the cache: for the mean
// square, for the greatest value after the step, which says the scale, and for the integers.
#include "philox.cuh"

constexpr int SCALE_PLACE = 20;
constexpr float GREATEST_FLOAT = 3.402823466e38f;

// How a row is stored whose values are of type `Level` (baco_gpu/precision.py).
template <class Level>
struct Rounding {
    static constexpr int BITS = 8 * (int)sizeof(Level);
    static constexpr float MIDDLE = ((1 << BITS) - 1) / 2.0f;
    // A scale is the bits of a float32 from SCALE_PLACE on, less that of 2^-16, and of 2^-24 with 16 bits.
    static constexpr int LEAST_SCALE = (127 - 16 - (BITS - 8)) << 3;

    __device__ __forceinline__ static float value_of_scale(unsigned char scale) {
        return scale == 0 ? 0.0f : __uint_as_float((unsigned)(scale + LEAST_SCALE) << SCALE_PLACE);
    }

    // The least scale whose outermost level is no less than `greatest`.
    __device__ __forceinline__ static unsigned char scale_that_reaches(float greatest) {
        const float scale = greatest / MIDDLE;
        if (scale == 0.0f) return 0;
        const int rounded = (int)((__float_as_uint(scale) + ((1u << SCALE_PLACE) - 1)) >> SCALE_PLACE) - LEAST_SCALE;
        return (unsigned char)(rounded < 1 ? 1 : rounded > 255 ? 255 : rounded);
    }
};

__device__ __forceinline__ double warp_total(double value) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(FULL_WARP, value, offset);
    return value;
}

__device__ __forceinline__ float warp_greatest(float value) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, offset));
    }
    return value;
}

// `odd` is a word for each dimension; see random_chances in counters.py.
template <class Level>
__global__ void __launch_bounds__(THREADS) low_precision_step(
    const Int64* rows, Int64 count, const float* gradient, Int64 dim, double rate, double eps, Word seed,
    const Int64* step, const int* odd, unsigned char* integers, unsigned char* scales, float* squares,
    unsigned char* counts
) {
    constexpr float MIDDLE = Rounding<Level>::MIDDLE;
    const int lane = lane_of_thread();
    for (Int64 place = index_of_thread() / WARP; place < count; place += threads_in_grid() / WARP) {
        const Int64 row = rows[place];
        const float* own = gradient + place * dim;
        Level* levels = reinterpret_cast<Level*>(integers) + row * dim;
        double total = 0.0;
        for (Int64 j = lane; j < dim; j += WARP) total += (double)own[j] * (double)own[j];
        const float now = (float)(warp_total(total) / (double)dim);
        if (!(now <= GREATEST_FLOAT)) continue;  // NaN or infinity: the row stays as it is
        const int seen = counts[row] + 1;
        float mean = squares[row];
        mean += (now - mean) / (float)seen;
        const float length = 1.0f / (sqrtf(mean) + (float)eps) * (float)rate;
        if (!(length <= GREATEST_FLOAT)) continue;  // infinity times zero would be NaN, which fmaxf drops

        const float before = Rounding<Level>::value_of_scale(scales[row]);
        float greatest = 0.0f;
        for (Int64 j = lane; j < dim; j += WARP) {
            greatest = fmaxf(greatest, fabsf(((float)levels[j] - MIDDLE) * before - own[j] * length));
        }
        const unsigned char scale = Rounding<Level>::scale_that_reaches(warp_greatest(greatest));
        const float after = scale == 0 ? 1.0f : Rounding<Level>::value_of_scale(scale);
        const Words words = philox(Words{(unsigned)row, (unsigned)((Word)row >> 32), (unsigned)*step, ROUNDING}, seed);
        for (Int64 j = lane; j < dim; j += WARP) {
            const float value = ((float)levels[j] - MIDDLE) * before - own[j] * length;
            const float chance = (float)((words.x * (unsigned)odd[j]) >> 8) * 0x1p-24f;
            const float level = floorf(value / after - 0.5f + chance) + 0.5f;
            levels[j] = (Level)(fminf(fmaxf(level, -MIDDLE), MIDDLE) + MIDDLE);
        }
        if (lane == 0) {
            scales[row] = scale;
            squares[row] = mean;
            counts[row] = (unsigned char)(seen > 255 ? 255 : seen);
        }
    }
}
