// Cross-entropy of each row in one pass over the logits: one block a row, maximum and sum of powers carried together.
#pragma once

#include "arguments.h"
#include "device.cuh"

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
__global__ void __launch_bounds__(WARPS * 32) cross_entropy_kernel(
    float* __restrict__ loss, const T* __restrict__ logits, const int64_t* __restrict__ labels, int width,
    int64_t stride, int64_t ignore) {
  const int64_t row = blockIdx.x;
  const int64_t label = labels[row];
  if (label == ignore) {  // the whole block leaves
    if (threadIdx.x == 0) loss[row] = 0.0f;
    return;
  }
  const T* from = logits + row * stride;
  const int packs = width / WIDTH;
  Seen seen;
  for (int p = threadIdx.x; p < packs; p += WARPS * 32) {
    const Pack<T, WIDTH> pack = load<T, WIDTH>(from + p * WIDTH);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) seen.add(to_float(pack.value[i]));
  }
  const float most = block_max<WARPS>(seen.most);
  const float base = most == -INFINITY ? 0.0f : most;
  const float total = block_sum<WARPS>(seen.sum * expf(seen.most - base));
  if (threadIdx.x == 0) {
    const bool valid = label >= 0 && label < width;
    loss[row] = valid ? logf(total) - (to_float(from[label]) - base) : NAN;
  }
}

template <typename T, int WIDTH, int WARPS>
inline void launch_rows(const View& loss, const View& logits, const View& labels, int64_t ignore, cudaStream_t stream) {
  Rows from;
  as_rows(logits, from);
  cross_entropy_kernel<T, WIDTH, WARPS><<<unsigned(from.count), WARPS * 32, 0, stream>>>(
      static_cast<float*>(loss.data), static_cast<const T*>(logits.data), static_cast<const int64_t*>(labels.data),
      int(from.width), from.stride, ignore);
}

inline const char* launch(View loss, View logits, View labels, int64_t ignore, cudaStream_t stream) {
  if (const char* why = refuse(loss, logits, labels, ignore)) return why;
  if (numel(logits) == 0) return nullptr;
  switch_type(logits.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int WIDE = 16 / sizeof(T);
    Rows from;
    as_rows(logits, from);
    const bool vector = from.width % WIDE == 0 && from.stride % WIDE == 0 && aligned16(logits.data);
    if (vector && from.width >= 4096) launch_rows<T, WIDE, 16>(loss, logits, labels, ignore, stream);
    else if (vector) launch_rows<T, WIDE, 4>(loss, logits, labels, ignore, stream);
    else launch_rows<T, 1, 8>(loss, logits, labels, ignore, stream);
  });
  return nullptr;
}
