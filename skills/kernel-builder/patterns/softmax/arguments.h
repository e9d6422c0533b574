// What softmax accepts, and how its work divides: the same for every device.
#pragma once

#include "view.h"

// nullptr, or why the call is refused.
inline const char* refuse(const View& out, const View& x) {
  Rows rows;
  if (!is_half_or_float(x)) return "x must be float32, float16 or bfloat16";
  if (out.dtype != x.dtype) return "out must have the dtype of x";
  if (x.ndim < 1 || !same_shape(out, x)) return "out must have the shape of x";
  if (!as_rows(x, rows) || !as_rows(out, rows)) return "rows of x and out must be dense and evenly spaced";
  return nullptr;
}

// Independent pieces of work, and the elements in each.
inline int64_t pieces(const View& out, const View& x) {
  Rows rows;
  return as_rows(x, rows) ? rows.count : 0;
}

inline int64_t piece_size(const View& out, const View& x) { return x.size[x.ndim - 1]; }
