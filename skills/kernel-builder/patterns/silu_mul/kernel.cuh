// silu(gate) * up, element by element: 16 bytes a load, a grid of columns by rows.
#pragma once

#include "arguments.h"
#include "device.cuh"

constexpr int THREADS = 256;
constexpr int64_t GRID_ROWS = 2048;  // fills any card; a block goes on with later rows

template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS) silu_mul_kernel(
    T* __restrict__ out, const T* __restrict__ gate, const T* __restrict__ up, int64_t rows, int packs,
    int64_t out_stride, int64_t gate_stride, int64_t up_stride) {
  const int p = blockIdx.x * THREADS + threadIdx.x;
  if (p >= packs) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    Pack<T, WIDTH> pack = load<T, WIDTH>(gate + row * gate_stride + p * WIDTH);
    const Pack<T, WIDTH> other = load<T, WIDTH>(up + row * up_stride + p * WIDTH);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      const float value = to_float(pack.value[i]);
      const T silu = from_float<T>(value / (1.0f + expf(-value)));  // rounded before the product, as the models do
      pack.value[i] = from_float<T>(to_float(silu) * to_float(other.value[i]));
    }
    store<T, WIDTH>(out + row * out_stride + p * WIDTH, pack);
  }
}

template <typename T, int WIDTH>
inline void launch_width(const View& out, const View& gate, const View& up, cudaStream_t stream) {
  Rows to, from, other;
  as_rows(out, to);
  as_rows(gate, from);
  as_rows(up, other);
  const int packs = int(from.width / WIDTH);
  const dim3 grid((packs + THREADS - 1) / THREADS, unsigned(from.count < GRID_ROWS ? from.count : GRID_ROWS));
  silu_mul_kernel<T, WIDTH><<<grid, THREADS, 0, stream>>>(
      static_cast<T*>(out.data), static_cast<const T*>(gate.data), static_cast<const T*>(up.data), from.count, packs,
      to.stride, from.stride, other.stride);
}

inline const char* launch(View out, View gate, View up, cudaStream_t stream) {
  if (const char* why = refuse(out, gate, up)) return why;
  if (numel(gate) == 0) return nullptr;
  switch_type(gate.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int WIDE = 16 / sizeof(T);
    bool vector = gate.size[gate.ndim - 1] % WIDE == 0;
    for (const View* view : {&out, &gate, &up}) {
      Rows rows;
      as_rows(*view, rows);
      vector = vector && rows.stride % WIDE == 0 && aligned16(view->data);
    }
    if (vector) launch_width<T, WIDE>(out, gate, up, stream);
    else launch_width<T, 1>(out, gate, up, stream);
  });
  return nullptr;
}
