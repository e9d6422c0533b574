// Cross-entropy of rows [begin, end) on the CPU, for whatever vector width the including file chose.
#pragma once

#include "arguments.h"
#include "vec.h"

namespace ISA {

template <class T>
inline float cross_entropy_row(const T* x, int64_t label, int64_t width) {
  const float lowest = -std::numeric_limits<float>::infinity();
  Vec most_of = splat(lowest);
  int64_t i = 0;
  for (; i + N <= width; i += N) most_of = largest(most_of, load(x + i));
  float most = largest(most_of);
  for (; i < width; ++i) most = get(x[i]) > most ? get(x[i]) : most;
  const float base = most == lowest ? 0.0f : most;

  Vec parts[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  for (i = 0; i + 4 * N <= width; i += 4 * N)
    for (int k = 0; k < 4; ++k) parts[k] += exp(load(x + i + k * N) - base);
  for (; i + N <= width; i += N) parts[0] += exp(load(x + i) - base);
  float total = sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
  for (; i < width; ++i) total += std::exp(get(x[i]) - base);
  return std::log(total) - (get(x[label]) - base);
}

inline void run(View loss, View logits, View labels, int64_t ignore, int64_t begin, int64_t end) {
  Rows from;
  as_rows(logits, from);
  float* to = static_cast<float*>(loss.data);
  const int64_t* wanted = static_cast<const int64_t*>(labels.data);
  switch_type(logits.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* x = static_cast<const T*>(logits.data);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t label = wanted[row];
      if (label == ignore) to[row] = 0.0f;
      else if (label < 0 || label >= from.width) to[row] = std::numeric_limits<float>::quiet_NaN();
      else to[row] = cross_entropy_row(x + row * from.stride, label, from.width);
    }
  });
}

}  // namespace ISA
