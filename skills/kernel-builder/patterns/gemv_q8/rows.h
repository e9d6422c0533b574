// Product with an 8-bit weight on the CPU, results [begin, end), for whatever vector width the including file chose.
#pragma once

#include "arguments.h"
#include "vec.h"

namespace ISA {

typedef int8_t Bytes __attribute__((vector_size(VECTOR_BYTES / 4)));

inline Vec load(const int8_t* from) {
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, Int), Vec);
}

template <class T>
inline float gemv_q8_one(const T* x, const int8_t* weight, const T* scale, int64_t groups, int64_t group) {
  Vec parts[2] = {splat(0.0f), splat(0.0f)};
  float rest = 0.0f;
  for (int64_t g = 0; g < groups; ++g, x += group, weight += group) {
    Vec some[2] = {splat(0.0f), splat(0.0f)};
    float few = 0.0f;
    int64_t i = 0;
    for (; i + 2 * N <= group; i += 2 * N)
      for (int k = 0; k < 2; ++k) some[k] += load(x + i + k * N) * load(weight + i + k * N);
    for (; i + N <= group; i += N) some[0] += load(x + i) * load(weight + i);
    for (; i < group; ++i) few += get(x[i]) * float(weight[i]);
    for (int k = 0; k < 2; ++k) parts[k] += some[k] * get(scale[g]);
    rest += few * get(scale[g]);
  }
  return sum(parts[0] + parts[1]) + rest;
}

inline void run(View out, View x, View weight, View scale, int64_t begin, int64_t end) {
  Rows to, from, rows, scales;
  as_rows(out, to);
  as_rows(x, from);
  as_rows(weight, rows);
  as_rows(scale, scales);
  const int64_t n = weight.size[0], groups = scale.size[1], group = weight.size[1] / groups;
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i / out.size[0], row = i % out.size[0];  // a row of the weight serves all rows of x
      static_cast<T*>(out.data)[row * to.stride + column] = put<T>(gemv_q8_one(
          static_cast<const T*>(x.data) + row * from.stride,
          static_cast<const int8_t*>(weight.data) + column * rows.stride,
          static_cast<const T*>(scale.data) + column * scales.stride, groups, group));
    }
  });
}

}  // namespace ISA
