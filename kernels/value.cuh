// Floating-point values of codebooks: each type as it is stored, and as it is computed with.
#pragma once

#include "common.cuh"

struct Half {
    unsigned short bits;
};

struct BFloat16 {
    unsigned short bits;
};

#ifdef __CUDA_ARCH__
// NVRTC comes without cuda_fp16.h; the build for the CPU brings functions of its own.
__device__ __forceinline__ float float_of_half(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short half_of_float(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

// What values of a type are added up in: sums are rounded once, at their end.
template <class Value>
struct WideOf {
    typedef float Type;
};

template <>
struct WideOf<double> {
    typedef double Type;
};

template <class Value>
using Wide = typename WideOf<Value>::Type;

__device__ __forceinline__ float widened(float value) { return value; }

__device__ __forceinline__ double widened(double value) { return value; }

__device__ __forceinline__ float widened(Half value) { return float_of_half(value.bits); }

__device__ __forceinline__ float widened(BFloat16 value) { return __uint_as_float((unsigned)value.bits << 16); }

template <class Value>
__device__ __forceinline__ Value narrowed(Wide<Value> value) {
    return value;
}

template <>
__device__ __forceinline__ Half narrowed<Half>(float value) {
    return Half{half_of_float(value)};
}

// To the nearest, ties to even; a NaN stays one.
template <>
__device__ __forceinline__ BFloat16 narrowed<BFloat16>(float value) {
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return BFloat16{0x7fc0};
    return BFloat16{(unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// Neighboring values that are read and written at once.
template <class Value, int count>
struct Pack {
    static constexpr int size = count;
    Value values[count];

    __device__ __forceinline__ static Pack of(const Value* place) {
        Pack pack;
        if constexpr (sizeof(Pack) == sizeof(uint4)) {
            const uint4 bytes = *(const uint4*)place;
            memcpy(&pack, &bytes, sizeof(Pack));
        } else {
            pack.values[0] = *place;
        }
        return pack;
    }

    __device__ __forceinline__ void to(Value* place) const {
        if constexpr (sizeof(Pack) == sizeof(uint4)) {
            uint4 bytes;
            memcpy(&bytes, this, sizeof(Pack));
            *(uint4*)place = bytes;
        } else {
            *place = values[0];
        }
    }
};

// As many as 16 bytes hold, or one where rows do not begin at multiples of 16 bytes.
template <class Value>
using Sixteen = Pack<Value, 16 / sizeof(Value)>;

template <class Value>
using Single = Pack<Value, 1>;
