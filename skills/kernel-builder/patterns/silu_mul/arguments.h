// What silu_mul accepts, and how its work divides: the same for every device.
#pragma once

#include "view.h"

// nullptr, or why the call is refused.
inline const char* refuse(const View& out, const View& gate, const View& up) {
  Rows rows;
  if (!is_half_or_float(gate)) return "gate must be float32, float16 or bfloat16";
  if (out.dtype != gate.dtype || up.dtype != gate.dtype) return "out, gate and up must have one dtype";
  if (gate.ndim < 1 || !same_shape(out, gate) || !same_shape(up, gate)) return "out, gate and up must have one shape";
  if (!as_rows(gate, rows) || !as_rows(up, rows) || !as_rows(out, rows))
    return "rows of out, gate and up must be dense and evenly spaced";
  return nullptr;
}

// Columns of a piece: a row of many is shared among threads, even if it is the only one.
constexpr int64_t PIECE = 4096;

inline int64_t pieces_a_row(const View& gate) { return (gate.size[gate.ndim - 1] + PIECE - 1) / PIECE; }

// Independent pieces of work, and the elements in each.
inline int64_t pieces(const View& out, const View& gate, const View& up) {
  Rows rows;
  return as_rows(gate, rows) ? rows.count * pieces_a_row(gate) : 0;
}

inline int64_t piece_size(const View& out, const View& gate, const View& up) {
  return gate.size[gate.ndim - 1] < PIECE ? gate.size[gate.ndim - 1] : PIECE;
}
