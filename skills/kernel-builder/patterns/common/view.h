// How a launch receives its arguments on every device: pointer, dtype, sizes and strides. Free of torch.
#pragma once

#include <cstdint>

enum DType : int { F32 = 0, F16 = 1, BF16 = 2, I64 = 3, I32 = 4, F64 = 5, I8 = 6, U8 = 7 };

struct View {
  void* data;
  int dtype;
  int ndim;
  const int64_t* size;
  const int64_t* stride;  // in elements
};

// A tensor as rows over its last dimension, `stride` elements apart.
struct Rows {
  int64_t count;
  int64_t width;
  int64_t stride;
};

inline int64_t numel(const View& view) {
  int64_t n = 1;
  for (int i = 0; i < view.ndim; ++i) n *= view.size[i];
  return n;
}

inline bool same_shape(const View& a, const View& b) {
  if (a.ndim != b.ndim) return false;
  for (int i = 0; i < a.ndim; ++i)
    if (a.size[i] != b.size[i]) return false;
  return true;
}

inline bool is_half_or_float(const View& view) {
  return view.dtype == F32 || view.dtype == F16 || view.dtype == BF16;
}

// False where the last dimension is not dense or the others do not share one stride.
inline bool as_rows(const View& view, Rows& rows) {
  if (view.ndim < 1) return false;
  const int last = view.ndim - 1;
  rows = {1, view.size[last], view.size[last]};
  if (view.size[last] > 1 && view.stride[last] != 1) return false;
  bool first = true;
  for (int i = last - 1; i >= 0; --i) {
    if (view.size[i] == 0) return rows.count = 0, true;
    if (view.size[i] == 1) continue;
    if (first) rows.stride = view.stride[i];
    if (!first && view.stride[i] != rows.stride * rows.count) return false;
    rows.count *= view.size[i];
    first = false;
  }
  return true;
}
