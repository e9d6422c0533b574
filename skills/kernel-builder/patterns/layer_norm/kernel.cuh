// LayerNorm over the last dimension: one warp a row up to 1024 columns, one block a row above.
// First the mean, then the spread around it; the row stays in registers as far as KEEP packs a thread reach.
#pragma once

#include "arguments.h"
#include "device.cuh"

constexpr int KEEP = 4;
constexpr int threads_of(int warps) { return warps == 1 ? 128 : warps * 32; }

template <typename T, int WIDTH, int WARPS>
__global__ void __launch_bounds__(threads_of(WARPS), 1024 / threads_of(WARPS)) layer_norm_kernel(
    T* __restrict__ out, const T* __restrict__ x, const T* __restrict__ weight,
    const T* __restrict__ bias, int64_t rows, int width, int64_t out_stride, int64_t x_stride, float eps) {
  constexpr int LANES = WARPS * 32;
  const int lane = threadIdx.x % LANES;
  const int64_t row = blockIdx.x * int64_t(blockDim.x / LANES) + threadIdx.x / LANES;
  if (row >= rows) return;  // whole warps leave, and only where nobody waits for them

  const T* from = x + row * x_stride;
  T* to = out + row * out_stride;
  const int packs = width / WIDTH;
  Pack<T, WIDTH> kept[KEEP];
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < KEEP; ++k) {
    const int p = lane + k * LANES;
    if (p < packs) {
      kept[k] = load<T, WIDTH>(from + p * WIDTH);
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) sum += to_float(kept[k].value[i]);
    }
  }
#pragma unroll 1
  for (int p = lane + KEEP * LANES; p < packs; p += LANES) {
    const Pack<T, WIDTH> pack = load<T, WIDTH>(from + p * WIDTH);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) sum += to_float(pack.value[i]);
  }
  const float mean = block_sum<WARPS>(sum) / width;

  float squares = 0.0f;
  const auto spread = [&](const Pack<T, WIDTH>& pack) {
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      const float away = to_float(pack.value[i]) - mean;
      squares += away * away;
    }
  };
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (lane + k * LANES < packs) spread(kept[k]);
#pragma unroll 1
  for (int p = lane + KEEP * LANES; p < packs; p += LANES) spread(load<T, WIDTH>(from + p * WIDTH));
  const float scale = rsqrtf(block_sum<WARPS>(squares) / width + eps);

  const auto write = [&](int p, Pack<T, WIDTH> pack) {
    const Pack<T, WIDTH> factor = load<T, WIDTH>(weight + p * WIDTH);
    const Pack<T, WIDTH> added = load<T, WIDTH>(bias + p * WIDTH);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      const float normal = (to_float(pack.value[i]) - mean) * scale;
      pack.value[i] = from_float<T>(normal * to_float(factor.value[i]) + to_float(added.value[i]));
    }
    store<T, WIDTH>(to + p * WIDTH, pack);
  };
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (lane + k * LANES < packs) write(lane + k * LANES, kept[k]);
#pragma unroll 1
  for (int p = lane + KEEP * LANES; p < packs; p += LANES) write(p, load<T, WIDTH>(from + p * WIDTH));
}

template <typename T, int WIDTH, int WARPS>
inline void launch_rows(const View& out, const View& x, const View& weight, const View& bias, float eps, cudaStream_t stream) {
  Rows from, to;
  as_rows(x, from);
  as_rows(out, to);
  constexpr int THREADS = threads_of(WARPS);
  constexpr int ROWS = THREADS / (WARPS * 32);
  const unsigned blocks = unsigned((from.count + ROWS - 1) / ROWS);
  layer_norm_kernel<T, WIDTH, WARPS><<<blocks, THREADS, 0, stream>>>(
      static_cast<T*>(out.data), static_cast<const T*>(x.data), static_cast<const T*>(weight.data),
      static_cast<const T*>(bias.data), from.count, int(from.width), to.stride, from.stride, eps);
}

template <typename T, int WIDTH>
inline void launch_width(const View& out, const View& x, const View& weight, const View& bias, float eps, cudaStream_t stream) {
  const int64_t packs = x.size[x.ndim - 1] / WIDTH;
  if (packs <= 32 * KEEP) return launch_rows<T, WIDTH, 1>(out, x, weight, bias, eps, stream);
  if (packs <= 256 * KEEP) return launch_rows<T, WIDTH, 8>(out, x, weight, bias, eps, stream);
  return launch_rows<T, WIDTH, 32>(out, x, weight, bias, eps, stream);
}

inline const char* launch(View out, View x, View weight, View bias, double eps, cudaStream_t stream) {
  if (const char* why = refuse(out, x, weight, bias, eps)) return why;
  if (numel(x) == 0) return nullptr;
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int WIDE = 16 / sizeof(T);
    Rows from, to;
    as_rows(x, from);
    as_rows(out, to);
    const bool vector = from.width % WIDE == 0 && from.stride % WIDE == 0 && to.stride % WIDE == 0 &&
                        aligned16(x.data) && aligned16(out.data) && aligned16(weight.data) &&
                        aligned16(bias.data);
    if (vector) launch_width<T, WIDE>(out, x, weight, bias, float(eps), stream);
    else launch_width<T, 1>(out, x, weight, bias, float(eps), stream);
  });
  return nullptr;
}
