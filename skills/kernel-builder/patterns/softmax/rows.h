// Softmax of rows [begin, end) on the CPU, for whatever vector width the including file chose.
#pragma once

#include "arguments.h"
#include "vec.h"

namespace ISA {

template <class T>
inline void softmax_row(T* out, const T* x, int64_t width) {
  const float lowest = -std::numeric_limits<float>::infinity();
  Vec most_of = splat(lowest);
  int64_t i = 0;
  for (; i + N <= width; i += N) most_of = largest(most_of, load(x + i));
  float most = largest(most_of);
  for (; i < width; ++i) most = get(x[i]) > most ? get(x[i]) : most;
  const float base = most == lowest ? 0.0f : most;

  Vec parts[2] = {splat(0.0f), splat(0.0f)};
  for (i = 0; i + 2 * N <= width; i += 2 * N)
    for (int k = 0; k < 2; ++k) parts[k] += exp(load(x + i + k * N) - base);
  for (; i + N <= width; i += N) parts[0] += exp(load(x + i) - base);
  float total = sum(parts[0] + parts[1]);
  for (; i < width; ++i) total += std::exp(get(x[i]) - base);

  for (i = 0; i + N <= width; i += N) store(out + i, exp(load(x + i) - base) / total);
  for (; i < width; ++i) out[i] = put<T>(std::exp(get(x[i]) - base) / total);
}

inline void run(View out, View x, int64_t begin, int64_t end) {
  Rows from, to;
  as_rows(x, from);
  as_rows(out, to);
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t row = begin; row < end; ++row)
      softmax_row(static_cast<T*>(out.data) + row * to.stride, static_cast<const T*>(x.data) + row * from.stride,
                  from.width);
  });
}

}  // namespace ISA
