// silu(gate) * up of pieces [begin, end) on the CPU, for whatever vector width the including file chose.
#pragma once

#include "arguments.h"
#include "vec.h"

namespace ISA {

template <class T>
inline void silu_mul_piece(T* out, const T* gate, const T* up, int64_t width) {
  int64_t i = 0;
  for (; i + N <= width; i += N) {
    const Vec value = load(gate + i);
    store(out + i, rounded(value / (exp(-value) + 1.0f), gate) * load(up + i));
  }
  for (; i < width; ++i) {
    const float value = get(gate[i]);
    out[i] = put<T>(rounded(value / (1.0f + std::exp(-value)), gate) * get(up[i]));
  }
}

inline void run(View out, View gate, View up, int64_t begin, int64_t end) {
  Rows to, from, other;
  as_rows(out, to);
  as_rows(gate, from);
  as_rows(up, other);
  const int64_t a_row = pieces_a_row(gate);
  switch_type(gate.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t row = piece / a_row, column = piece % a_row * PIECE;
      const int64_t width = from.width - column < PIECE ? from.width - column : PIECE;
      silu_mul_piece(static_cast<T*>(out.data) + row * to.stride + column,
                     static_cast<const T*>(gate.data) + row * from.stride + column,
                     static_cast<const T*>(up.data) + row * other.stride + column, width);
    }
  });
}

}  // namespace ISA
