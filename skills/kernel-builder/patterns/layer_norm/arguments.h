// What layer_norm accepts, and how its work divides: the same for every device.
#pragma once

#include "view.h"

// nullptr, or why the call is refused.
inline const char* refuse(const View& out, const View& x, const View& weight, const View& bias, double eps) {
  Rows rows;
  if (!is_half_or_float(x)) return "x must be float32, float16 or bfloat16";
  if (out.dtype != x.dtype || weight.dtype != x.dtype || bias.dtype != x.dtype)
    return "out, x, weight and bias must have one dtype";
  if (x.ndim < 1 || !same_shape(out, x)) return "out must have the shape of x";
  if (weight.ndim != 1 || weight.size[0] != x.size[x.ndim - 1]) return "weight must be as wide as x";
  if (!same_shape(weight, bias)) return "bias must be as wide as x";
  if (weight.size[0] > 1 && (weight.stride[0] != 1 || bias.stride[0] != 1)) return "weight and bias must be dense";
  if (!as_rows(x, rows) || !as_rows(out, rows)) return "rows of x and out must be dense and evenly spaced";
  if (!(eps >= 0)) return "eps must not be negative";
  return nullptr;
}

// Independent pieces of work, and the elements in each.
inline int64_t pieces(const View& out, const View& x, const View& weight, const View& bias, double eps) {
  Rows rows;
  return as_rows(x, rows) ? rows.count : 0;
}

inline int64_t piece_size(const View& out, const View& x, const View& weight, const View& bias, double eps) {
  return x.size[x.ndim - 1];
}
