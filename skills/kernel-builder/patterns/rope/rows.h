// Rotary position embedding of heads [begin, end) on the CPU, for whatever vector width the including file chose.
#pragma once

#include "arguments.h"
#include "vec.h"

namespace ISA {

template <class T>
inline void rope_head(T* out, const T* x, const T* cos, const T* sin, int64_t half) {
  int64_t i = 0;
  for (; i + N <= half; i += N) {
    const Vec a = load(x + i), b = load(x + half + i);
    store(out + i, rounded(a * load(cos + i), x) + rounded(-b * load(sin + i), x));
    store(out + half + i, rounded(b * load(cos + half + i), x) + rounded(a * load(sin + half + i), x));
  }
  for (; i < half; ++i) {
    const float a = get(x[i]), b = get(x[half + i]);
    out[i] = put<T>(rounded(a * get(cos[i]), x) + rounded(-b * get(sin[i]), x));
    out[half + i] = put<T>(rounded(b * get(cos[half + i]), x) + rounded(a * get(sin[half + i]), x));
  }
}

inline void run(View out, View x, View cos, View sin, int64_t begin, int64_t end) {
  Rows to, from, turn, lift;
  as_rows(out, to);
  as_rows(x, from);
  as_rows(cos, turn);
  as_rows(sin, lift);
  const int64_t heads = x.size[1];
  switch_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t row = begin; row < end; ++row)
      rope_head(static_cast<T*>(out.data) + row * to.stride, static_cast<const T*>(x.data) + row * from.stride,
                static_cast<const T*>(cos.data) + row / heads * turn.stride,
                static_cast<const T*>(sin.data) + row / heads * lift.stride, from.width / 2);
  });
}

}  // namespace ISA
