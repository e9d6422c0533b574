// What rope accepts, and how its work divides: the same for every device.
#pragma once

#include "view.h"

// nullptr, or why the call is refused.
inline const char* refuse(const View& out, const View& x, const View& cos, const View& sin) {
  Rows rows;
  if (!is_half_or_float(x)) return "x must be float32, float16 or bfloat16";
  if (out.dtype != x.dtype || cos.dtype != x.dtype || sin.dtype != x.dtype) return "all tensors must have one dtype";
  if (x.ndim != 3 || !same_shape(out, x)) return "x and out must be (tokens, heads, D)";
  if (x.size[2] % 2 != 0) return "D must be even";
  if (cos.ndim != 2 || !same_shape(cos, sin)) return "cos and sin must be (tokens, D)";
  if (cos.size[0] != x.size[0] || cos.size[1] != x.size[2]) return "cos and sin must be (tokens, D) of x";
  if (!as_rows(x, rows) || !as_rows(out, rows)) return "rows of x and out must be dense and evenly spaced";
  if (!as_rows(cos, rows) || !as_rows(sin, rows)) return "rows of cos and sin must be dense";
  return nullptr;
}

// Independent pieces of work, and the elements in each.
inline int64_t pieces(const View& out, const View& x, const View& cos, const View& sin) {
  return x.size[0] * x.size[1];
}

inline int64_t piece_size(const View& out, const View& x, const View& cos, const View& sin) { return x.size[2]; }
