// What CUDA kernels of a project share: conversions, 16-byte loads and stores, sums over a warp and a block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "view.h"

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ inline T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) { return value; }
template <>
__device__ inline __half from_float<__half>(float value) { return __float2half_rn(value); }
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) { return __float2bfloat16_rn(value); }

// N values that move together. With N * sizeof(T) == 16 one load or store is one 128-bit instruction.
template <typename T, int N>
struct Pack {
  T value[N];
};

template <typename T, int N>
__device__ inline Pack<T, N> load(const T* from) {
  Pack<T, N> pack;
  if constexpr (N * sizeof(T) == 16) {
    const int4 bits = __ldg(reinterpret_cast<const int4*>(from));
    __builtin_memcpy(&pack, &bits, 16);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) pack.value[i] = from[i];
  }
  return pack;
}

template <typename T, int N>
__device__ inline void store(T* to, const Pack<T, N>& pack) {
  if constexpr (N * sizeof(T) == 16) {
    int4 bits;
    __builtin_memcpy(&bits, &pack, 16);
    *reinterpret_cast<int4*>(to) = bits;
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) to[i] = pack.value[i];
  }
}

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  return value;
}

// The sum over a block of WARPS warps, known to every thread. Call it with all threads; twice in a row is safe.
template <int WARPS>
__device__ inline float block_sum(float value) {
  __shared__ float shared[WARPS];
  value = warp_sum(value);
  if constexpr (WARPS == 1) return value;
  __syncthreads();  // the slots may still be read from the call before
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < WARPS; ++i) sum += shared[i];
  return sum;
}

template <int WARPS>
__device__ inline float block_max(float value) {
  __shared__ float shared[WARPS];
  value = warp_max(value);
  if constexpr (WARPS == 1) return value;
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  float most = shared[0];
#pragma unroll
  for (int i = 1; i < WARPS; ++i) most = fmaxf(most, shared[i]);
  return most;
}

inline bool aligned16(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Calls f with a null pointer of the element's type: switch_type(v.dtype, [&](auto* t) { using T = ...; }).
template <typename F>
inline void switch_type(int dtype, F&& f) {
  if (dtype == F32) f(static_cast<float*>(nullptr));
  if (dtype == F16) f(static_cast<__half*>(nullptr));
  if (dtype == BF16) f(static_cast<__nv_bfloat16*>(nullptr));
}
