// RMSNorm of rows [begin, end) on the CPU, for whatever vector width the including file chose.
#pragma once

#include "arguments.h"
#include "vec.h"

namespace ISA {

template <class T>
inline void rms_norm_row(T* out, const T* x, const T* weight, int64_t width, float eps) {
  Vec parts[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  int64_t i = 0;
  for (; i + 4 * N <= width; i += 4 * N)
    for (int k = 0; k < 4; k += 2) {
      const Pair v = load_pair(x + i + k * N);
      parts[k] += v.a * v.a;
      parts[k + 1] += v.b * v.b;
    }
  for (; i + N <= width; i += N) {
    const Vec v = load(x + i);
    parts[0] += v * v;
  }
  float squares = sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
  for (; i < width; ++i) squares += get(x[i]) * get(x[i]);

  const float scale = 1.0f / std::sqrt(squares / float(width) + eps);

  for (i = 0; i + 2 * N <= width; i += 2 * N) {
    const Pair v = load_pair(x + i), factor = load_pair(weight + i);
    store_pair(out + i, {rounded(v.a * scale, x) * factor.a, rounded(v.b * scale, x) * factor.b});
  }
  for (; i + N <= width; i += N) store(out + i, rounded(load(x + i) * scale, x) * load(weight + i));
  for (; i < width; ++i) out[i] = put<T>(rounded(get(x[i]) * scale, x) * get(weight[i]));
}

inline void run(View out, View x, View weight, double eps, int64_t begin, int64_t end) {
  Rows from, to;
  as_rows(x, from);
  as_rows(out, to);
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t row = begin; row < end; ++row)
      rms_norm_row(static_cast<T*>(out.data) + row * to.stride, static_cast<const T*>(x.data) + row * from.stride,
                   static_cast<const T*>(weight.data), from.width, float(eps));
  });
}

}  // namespace ISA
