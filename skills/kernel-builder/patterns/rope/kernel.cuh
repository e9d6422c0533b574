// Rotary position embedding: a thread takes a pack of the left half of a head and the pack of the right half it turns with.
#pragma once

#include "arguments.h"
#include "device.cuh"

constexpr int THREADS = 256;

template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS) rope_kernel(
    T* __restrict__ out, const T* __restrict__ x, const T* __restrict__ cos, const T* __restrict__ sin, int64_t total,
    int heads, int half, int64_t out_stride, int64_t x_stride, int64_t cos_stride, int64_t sin_stride) {
  const int packs = half / WIDTH;
  const int64_t item = blockIdx.x * int64_t(THREADS) + threadIdx.x;
  if (item >= total) return;
  const int64_t row = item / packs;
  const int64_t token = row / heads;
  const int at = int(item % packs) * WIDTH;

  const T* from = x + row * x_stride + at;
  const T* turn = cos + token * cos_stride + at;
  const T* lift = sin + token * sin_stride + at;
  Pack<T, WIDTH> left = load<T, WIDTH>(from), right = load<T, WIDTH>(from + half);
  const Pack<T, WIDTH> cos_left = load<T, WIDTH>(turn), cos_right = load<T, WIDTH>(turn + half);
  const Pack<T, WIDTH> sin_left = load<T, WIDTH>(lift), sin_right = load<T, WIDTH>(lift + half);
#pragma unroll
  for (int i = 0; i < WIDTH; ++i) {
    const float a = to_float(left.value[i]), b = to_float(right.value[i]);
    // products are rounded before they are added, as the models do
    const T kept_a = from_float<T>(__fmul_rn(a, to_float(cos_left.value[i])));
    const T kept_b = from_float<T>(__fmul_rn(b, to_float(cos_right.value[i])));
    const T crossed_a = from_float<T>(__fmul_rn(-b, to_float(sin_left.value[i])));
    const T crossed_b = from_float<T>(__fmul_rn(a, to_float(sin_right.value[i])));
    left.value[i] = from_float<T>(__fadd_rn(to_float(kept_a), to_float(crossed_a)));
    right.value[i] = from_float<T>(__fadd_rn(to_float(kept_b), to_float(crossed_b)));
  }
  T* to = out + row * out_stride + at;
  store<T, WIDTH>(to, left);
  store<T, WIDTH>(to + half, right);
}

template <typename T, int WIDTH>
inline void launch_width(const View& out, const View& x, const View& cos, const View& sin, cudaStream_t stream) {
  Rows to, from, turn, lift;
  as_rows(out, to);
  as_rows(x, from);
  as_rows(cos, turn);
  as_rows(sin, lift);
  const int half = int(from.width / 2);
  const int64_t total = from.count * (half / WIDTH);
  rope_kernel<T, WIDTH><<<unsigned((total + THREADS - 1) / THREADS), THREADS, 0, stream>>>(
      static_cast<T*>(out.data), static_cast<const T*>(x.data), static_cast<const T*>(cos.data),
      static_cast<const T*>(sin.data), total, int(x.size[1]), half, to.stride, from.stride, turn.stride, lift.stride);
}

inline const char* launch(View out, View x, View cos, View sin, cudaStream_t stream) {
  if (const char* why = refuse(out, x, cos, sin)) return why;
  if (numel(x) == 0) return nullptr;
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int WIDE = 16 / sizeof(T);
    bool vector = x.size[2] / 2 % WIDE == 0;
    for (const View* view : {&out, &x, &cos, &sin}) {
      Rows rows;
      as_rows(*view, rows);
      vector = vector && rows.stride % WIDE == 0 && aligned16(view->data);
    }
    if (vector) launch_width<T, WIDE>(out, x, cos, sin, stream);
    else launch_width<T, 1>(out, x, cos, sin, stream);
  });
  return nullptr;
}
