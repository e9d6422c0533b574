// What gemv_q8 accepts, and how its work divides: the same for every device.
#pragma once

#include "view.h"

// nullptr, or why the call is refused.
inline const char* refuse(const View& out, const View& x, const View& weight, const View& scale) {
  Rows rows;
  if (!is_half_or_float(x)) return "x must be float32, float16 or bfloat16";
  if (out.dtype != x.dtype || scale.dtype != x.dtype) return "out, x and scale must have one dtype";
  if (weight.dtype != I8) return "weight must be int8";
  if (out.ndim != 2 || x.ndim != 2 || weight.ndim != 2 || scale.ndim != 2) return "all tensors must have two dimensions";
  if (x.size[1] != weight.size[1]) return "x must be as wide as weight";
  if (out.size[0] != x.size[0] || out.size[1] != weight.size[0]) return "out must be (rows of x, rows of weight)";
  if (scale.size[0] != weight.size[0] || scale.size[1] == 0 || weight.size[1] % scale.size[1] != 0)
    return "scale must be (rows of weight, groups), and the groups of equal width";
  if (!as_rows(out, rows) || !as_rows(x, rows) || !as_rows(weight, rows) || !as_rows(scale, rows))
    return "rows of all tensors must be dense";
  return nullptr;
}

// Independent pieces of work, and the elements in each.
inline int64_t pieces(const View& out, const View& x, const View& weight, const View& scale) {
  return out.size[0] * out.size[1];
}

inline int64_t piece_size(const View& out, const View& x, const View& weight, const View& scale) {
  return weight.size[1];
}
