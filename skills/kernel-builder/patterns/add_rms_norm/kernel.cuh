// total = x + residual and its RMSNorm, in one go: one warp a row up to 1024 columns, one block a row above.
// The sum stays in registers between the two passes as far as KEEP packs a thread reach; the rest is read from total.
#pragma once

#include "arguments.h"
#include "device.cuh"

constexpr int KEEP = 4;

constexpr int threads_of(int warps) { return warps == 1 ? 128 : warps * 32; }

template <typename T>
struct Pointers {
  T* out;
  T* total;
  const T* x;
  const T* residual;
  const T* weight;
  int64_t out_stride, total_stride, x_stride, residual_stride;
};

template <typename T, int WIDTH, int WARPS>
__global__ void __launch_bounds__(threads_of(WARPS), 512 / threads_of(WARPS))
    add_rms_norm_kernel(Pointers<T> at, int64_t rows, int width, float eps) {
  constexpr int LANES = WARPS * 32;
  const int lane = threadIdx.x % LANES;
  const int64_t row = blockIdx.x * int64_t(blockDim.x / LANES) + threadIdx.x / LANES;
  if (row >= rows) return;  // whole warps leave, and only where nobody waits for them

  const T* x = at.x + row * at.x_stride;
  const T* residual = at.residual + row * at.residual_stride;
  T* total = at.total + row * at.total_stride;
  T* out = at.out + row * at.out_stride;
  const int packs = width / WIDTH;
  Pack<T, WIDTH> kept[KEEP];
  float squares = 0.0f;
  const auto add = [&](int p) {
    Pack<T, WIDTH> pack = load<T, WIDTH>(x + p * WIDTH);
    const Pack<T, WIDTH> other = load<T, WIDTH>(residual + p * WIDTH);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      pack.value[i] = from_float<T>(to_float(pack.value[i]) + to_float(other.value[i]));
      squares += to_float(pack.value[i]) * to_float(pack.value[i]);
    }
    store<T, WIDTH>(total + p * WIDTH, pack);
    return pack;
  };
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (lane + k * LANES < packs) kept[k] = add(lane + k * LANES);
  for (int p = lane + KEEP * LANES; p < packs; p += LANES) add(p);

  const float scale = rsqrtf(block_sum<WARPS>(squares) / width + eps);

  const auto write = [&](int p, Pack<T, WIDTH> pack) {
    const Pack<T, WIDTH> factor = load<T, WIDTH>(at.weight + p * WIDTH);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      const T normal = from_float<T>(to_float(pack.value[i]) * scale);  // rounded before the weight, as the models do
      pack.value[i] = from_float<T>(to_float(normal) * to_float(factor.value[i]));
    }
    store<T, WIDTH>(out + p * WIDTH, pack);
  };
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (lane + k * LANES < packs) write(lane + k * LANES, kept[k]);
  for (int p = lane + KEEP * LANES; p < packs; p += LANES) {
    Pack<T, WIDTH> own;  // written by this very thread: not through the read-only path
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) own.value[i] = total[p * WIDTH + i];
    write(p, own);
  }
}

template <typename T, int WIDTH, int WARPS>
inline void launch_rows(const Pointers<T>& at, int64_t rows, int width, float eps, cudaStream_t stream) {
  constexpr int THREADS = WARPS == 1 ? 128 : WARPS * 32;
  constexpr int ROWS = THREADS / (WARPS * 32);
  add_rms_norm_kernel<T, WIDTH, WARPS><<<unsigned((rows + ROWS - 1) / ROWS), THREADS, 0, stream>>>(at, rows, width, eps);
}

template <typename T, int WIDTH>
inline void launch_width(const Pointers<T>& at, int64_t rows, int width, float eps, cudaStream_t stream) {
  if (width / WIDTH <= 32 * KEEP) return launch_rows<T, WIDTH, 1>(at, rows, width, eps, stream);
  if (width / WIDTH <= 256 * KEEP) return launch_rows<T, WIDTH, 8>(at, rows, width, eps, stream);
  return launch_rows<T, WIDTH, 16>(at, rows, width, eps, stream);
}

inline const char* launch(View out, View total, View x, View residual, View weight, double eps, cudaStream_t stream) {
  if (const char* why = refuse(out, total, x, residual, weight, eps)) return why;
  if (numel(x) == 0) return nullptr;
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int WIDE = 16 / sizeof(T);
    Rows rows[4];
    const View* views[4] = {&out, &total, &x, &residual};
    bool vector = x.size[x.ndim - 1] % WIDE == 0 && aligned16(weight.data);
    for (int i = 0; i < 4; ++i) {
      as_rows(*views[i], rows[i]);
      vector = vector && rows[i].stride % WIDE == 0 && aligned16(views[i]->data);
    }
    const Pointers<T> at = {static_cast<T*>(out.data), static_cast<T*>(total.data), static_cast<const T*>(x.data),
                            static_cast<const T*>(residual.data), static_cast<const T*>(weight.data),
                            rows[0].stride, rows[1].stride, rows[2].stride, rows[3].stride};
    if (vector) launch_width<T, WIDE>(at, rows[2].count, int(rows[2].width), float(eps), stream);
    else launch_width<T, 1>(at, rows[2].count, int(rows[2].width), float(eps), stream);
  });
  return nullptr;
}
