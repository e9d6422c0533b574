// Product with an 8-bit weight: one warp for a row of the weight, 16 weights a load, the scale applied to packs.
#pragma once

#include "arguments.h"
#include "device.cuh"

constexpr int WARPS = 8;

template <typename T, int WIDTH>
__global__ void __launch_bounds__(WARPS * 32) gemv_q8_kernel(
    T* __restrict__ out, const T* __restrict__ x, const int8_t* __restrict__ weight, const T* __restrict__ scale, int n,
    int k, int group, int64_t out_stride, int64_t x_stride, int64_t weight_stride, int64_t scale_stride) {
  const int lane = threadIdx.x % 32;
  const int row = blockIdx.x * WARPS + threadIdx.x / 32;
  if (row >= n) return;  // whole warps leave
  const int8_t* weights = weight + row * weight_stride;
  const T* scales = scale + row * scale_stride;
  const T* values = x + blockIdx.y * x_stride;
  const int packs = k / WIDTH;
  float sum = 0.0f;
  for (int p = lane; p < packs; p += 32) {
    const Pack<int8_t, WIDTH> pack = load<int8_t, WIDTH>(weights + p * WIDTH);
    constexpr int PART = WIDTH == 1 ? 1 : 16 / sizeof(T);
    float part = 0.0f;
#pragma unroll
    for (int j = 0; j < WIDTH; j += PART) {
      const Pack<T, PART> factor = load<T, PART>(values + p * WIDTH + j);
#pragma unroll
      for (int i = 0; i < PART; ++i) part += to_float(factor.value[i]) * float(pack.value[j + i]);
    }
    sum += part * to_float(scales[p * WIDTH / group]);
  }
  sum = warp_sum(sum);
  if (lane == 0) out[blockIdx.y * out_stride + row] = from_float<T>(sum);
}

template <typename T, int WIDTH>
inline void launch_width(const View& out, const View& x, const View& weight, const View& scale, cudaStream_t stream) {
  Rows to, from, rows, scales;
  as_rows(out, to);
  as_rows(x, from);
  as_rows(weight, rows);
  as_rows(scale, scales);
  const int n = int(weight.size[0]), k = int(weight.size[1]), group = int(k / scale.size[1]);
  const dim3 grid((n + WARPS - 1) / WARPS, unsigned(x.size[0]));
  gemv_q8_kernel<T, WIDTH><<<grid, WARPS * 32, 0, stream>>>(
      static_cast<T*>(out.data), static_cast<const T*>(x.data), static_cast<const int8_t*>(weight.data),
      static_cast<const T*>(scale.data), n, k, group, to.stride, from.stride, rows.stride, scales.stride);
}

inline const char* launch(View out, View x, View weight, View scale, cudaStream_t stream) {
  if (const char* why = refuse(out, x, weight, scale)) return why;
  if (numel(out) == 0) return nullptr;
  if (x.size[0] > 65535) return "x has too many rows: this is for a few, as in decoding";
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    Rows from, rows;
    as_rows(x, from);
    as_rows(weight, rows);
    const int64_t group = weight.size[1] / scale.size[1];
    const bool vector = group % 16 == 0 && from.stride % (16 / sizeof(T)) == 0 && rows.stride % 16 == 0 &&
                        aligned16(x.data) && aligned16(weight.data);
    if (vector) launch_width<T, 16>(out, x, weight, scale, stream);
    else launch_width<T, 1>(out, x, weight, scale, stream);
  });
  return nullptr;
}
