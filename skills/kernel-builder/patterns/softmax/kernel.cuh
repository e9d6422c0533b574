// Softmax over the last dimension: one warp a row up to 1024 columns, one block a row above.
// Maximum and sum come from one pass; the row stays in registers for the second as far as KEEP packs a thread reach.
#pragma once

#include "arguments.h"
#include "device.cuh"

constexpr int KEEP = 4;

constexpr int threads_of(int warps) { return warps == 1 ? 128 : warps * 32; }

// Sum of exp(v - most) over what a thread saw, and its maximum so far. A NaN makes the sum NaN.
struct Seen {
  float most = -INFINITY;
  float sum = 0.0f;

  __device__ void add(float value) {
    const float next = fmaxf(most, value);
    const float base = next == -INFINITY ? 0.0f : next;
    sum = sum * expf(most - base) + expf(value - base);
    most = next;
  }
};

template <typename T, int WIDTH, int WARPS>
__global__ void __launch_bounds__(threads_of(WARPS), 1024 / threads_of(WARPS)) softmax_kernel(
    T* __restrict__ out, const T* __restrict__ x, int64_t rows, int width, int64_t out_stride, int64_t x_stride) {
  constexpr int LANES = WARPS * 32;
  const int lane = threadIdx.x % LANES;
  const int64_t row = blockIdx.x * int64_t(blockDim.x / LANES) + threadIdx.x / LANES;
  if (row >= rows) return;  // whole warps leave, and only where nobody waits for them

  const T* from = x + row * x_stride;
  T* to = out + row * out_stride;
  const int packs = width / WIDTH;
  Pack<T, WIDTH> kept[KEEP];
  Seen seen;
#pragma unroll
  for (int k = 0; k < KEEP; ++k) {
    const int p = lane + k * LANES;
    if (p < packs) {
      kept[k] = load<T, WIDTH>(from + p * WIDTH);
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) seen.add(to_float(kept[k].value[i]));
    }
  }
  for (int p = lane + KEEP * LANES; p < packs; p += LANES) {
    const Pack<T, WIDTH> pack = load<T, WIDTH>(from + p * WIDTH);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) seen.add(to_float(pack.value[i]));
  }

  const float most = block_max<WARPS>(seen.most);
  const float base = most == -INFINITY ? 0.0f : most;
  const float total = block_sum<WARPS>(seen.sum * expf(seen.most - base));

  const auto write = [&](int p, Pack<T, WIDTH> pack) {
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) pack.value[i] = from_float<T>(expf(to_float(pack.value[i]) - base) / total);
    store<T, WIDTH>(to + p * WIDTH, pack);
  };
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (lane + k * LANES < packs) write(lane + k * LANES, kept[k]);
  for (int p = lane + KEEP * LANES; p < packs; p += LANES) write(p, load<T, WIDTH>(from + p * WIDTH));
}

template <typename T, int WIDTH, int WARPS>
inline void launch_rows(const View& out, const View& x, cudaStream_t stream) {
  Rows from, to;
  as_rows(x, from);
  as_rows(out, to);
  constexpr int THREADS = WARPS == 1 ? 128 : WARPS * 32;
  constexpr int ROWS = THREADS / (WARPS * 32);
  const unsigned blocks = unsigned((from.count + ROWS - 1) / ROWS);
  softmax_kernel<T, WIDTH, WARPS><<<blocks, THREADS, 0, stream>>>(
      static_cast<T*>(out.data), static_cast<const T*>(x.data), from.count, int(from.width), to.stride, from.stride);
}

template <typename T, int WIDTH>
inline void launch_width(const View& out, const View& x, cudaStream_t stream) {
  const int64_t packs = x.size[x.ndim - 1] / WIDTH;
  if (packs <= 32 * KEEP) return launch_rows<T, WIDTH, 1>(out, x, stream);
  if (packs <= 256 * KEEP) return launch_rows<T, WIDTH, 8>(out, x, stream);
  return launch_rows<T, WIDTH, 32>(out, x, stream);
}

inline const char* launch(View out, View x, cudaStream_t stream) {
  if (const char* why = refuse(out, x)) return why;
  if (numel(x) == 0) return nullptr;
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int WIDE = 16 / sizeof(T);
    Rows from, to;
    as_rows(x, from);
    as_rows(out, to);
    const bool vector = from.width % WIDE == 0 && from.stride % WIDE == 0 && to.stride % WIDE == 0 &&
                        aligned16(x.data) && aligned16(out.data);
    if (vector) launch_width<T, WIDE>(out, x, stream);
    else launch_width<T, 1>(out, x, stream);
  });
  return nullptr;
}
