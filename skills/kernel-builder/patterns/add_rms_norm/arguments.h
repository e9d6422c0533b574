// What add_rms_norm accepts, and how its work divides: the same for every device.
#pragma once

#include <initializer_list>

#include "view.h"

// nullptr, or why the call is refused.
inline const char* refuse(const View& out, const View& total, const View& x, const View& residual, const View& weight,
                          double eps) {
  Rows rows;
  if (!is_half_or_float(x)) return "x must be float32, float16 or bfloat16";
  for (const View* view : {&out, &total, &residual}) {
    if (view->dtype != x.dtype || weight.dtype != x.dtype) return "all tensors must have one dtype";
    if (x.ndim < 1 || !same_shape(*view, x)) return "out, total and residual must have the shape of x";
    if (!as_rows(*view, rows)) return "rows must be dense and evenly spaced";
  }
  if (weight.ndim != 1 || weight.size[0] != x.size[x.ndim - 1]) return "weight must be as wide as x";
  if (weight.size[0] > 1 && weight.stride[0] != 1) return "weight must be dense";
  if (!as_rows(x, rows)) return "rows must be dense and evenly spaced";
  if (!(eps >= 0)) return "eps must not be negative";
  return nullptr;
}

// Independent pieces of work, and the elements in each.
inline int64_t pieces(const View& out, const View& total, const View& x, const View& residual,
                      const View& weight, double eps) {
  Rows rows;
  return as_rows(x, rows) ? rows.count : 0;
}

inline int64_t piece_size(const View& out, const View& total, const View& x, const View& residual,
                          const View& weight, double eps) {
  return x.size[x.ndim - 1];
}
