// total = x + residual and its RMSNorm, rows [begin, end) on the CPU, for whatever vector width the including file chose.
#pragma once

#include "arguments.h"
#include "vec.h"

namespace ISA {

template <class T>
inline void add_rms_norm_row(T* out, T* total, const T* x, const T* residual, const T* weight, int64_t width,
                             float eps) {
  Vec parts[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  int64_t i = 0;
  for (; i + 4 * N <= width; i += 4 * N)
    for (int k = 0; k < 4; ++k) {
      const Vec v = rounded(load(x + i + k * N) + load(residual + i + k * N), x);
      store(total + i + k * N, v);
      parts[k] += v * v;
    }
  for (; i + N <= width; i += N) {
    const Vec v = rounded(load(x + i) + load(residual + i), x);
    store(total + i, v);
    parts[0] += v * v;
  }
  float squares = sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
  for (; i < width; ++i) {
    total[i] = put<T>(get(x[i]) + get(residual[i]));
    squares += get(total[i]) * get(total[i]);
  }

  const float scale = 1.0f / std::sqrt(squares / float(width) + eps);

  for (i = 0; i + N <= width; i += N) store(out + i, rounded(load(total + i) * scale, x) * load(weight + i));
  for (; i < width; ++i) out[i] = put<T>(rounded(get(total[i]) * scale, x) * get(weight[i]));
}

inline void run(View out, View total, View x, View residual, View weight, double eps, int64_t begin, int64_t end) {
  Rows to, kept, from, other;
  as_rows(out, to);
  as_rows(total, kept);
  as_rows(x, from);
  as_rows(residual, other);
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t row = begin; row < end; ++row)
      add_rms_norm_row(static_cast<T*>(out.data) + row * to.stride, static_cast<T*>(total.data) + row * kept.stride,
                       static_cast<const T*>(x.data) + row * from.stride,
                       static_cast<const T*>(residual.data) + row * other.stride,
                       static_cast<const T*>(weight.data), from.width, float(eps));
  });
}

}  // namespace ISA
