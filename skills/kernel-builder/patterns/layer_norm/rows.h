// LayerNorm of rows [begin, end) on the CPU, for whatever vector width the including file chose.
#pragma once

#include "arguments.h"
#include "vec.h"

namespace ISA {

template <class T>
inline void layer_norm_row(T* out, const T* x, const T* weight, const T* bias, int64_t width, float eps) {
  Vec parts[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  int64_t i = 0;
  for (; i + 4 * N <= width; i += 4 * N)
    for (int k = 0; k < 4; ++k) parts[k] += load(x + i + k * N);
  for (; i + N <= width; i += N) parts[0] += load(x + i);
  float total = sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
  for (; i < width; ++i) total += get(x[i]);
  const float mean = total / float(width);

  Vec spread[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  for (i = 0; i + 4 * N <= width; i += 4 * N)
    for (int k = 0; k < 4; ++k) {
      const Vec away = load(x + i + k * N) - mean;
      spread[k] += away * away;
    }
  for (; i + N <= width; i += N) {
    const Vec away = load(x + i) - mean;
    spread[0] += away * away;
  }
  float squares = sum((spread[0] + spread[1]) + (spread[2] + spread[3]));
  for (; i < width; ++i) squares += (get(x[i]) - mean) * (get(x[i]) - mean);
  const float scale = 1.0f / std::sqrt(squares / float(width) + eps);

  for (i = 0; i + N <= width; i += N)
    store(out + i, (load(x + i) - mean) * scale * load(weight + i) + load(bias + i));
  for (; i < width; ++i) out[i] = put<T>((get(x[i]) - mean) * scale * get(weight[i]) + get(bias[i]));
}

inline void run(View out, View x, View weight, View bias, double eps, int64_t begin, int64_t end) {
  Rows from, to;
  as_rows(x, from);
  as_rows(out, to);
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t row = begin; row < end; ++row)
      layer_norm_row(static_cast<T*>(out.data) + row * to.stride, static_cast<const T*>(x.data) + row * from.stride,
                     static_cast<const T*>(weight.data), static_cast<const T*>(bias.data), from.width, float(eps));
  });
}

}  // namespace ISA
