// What cross_entropy accepts, and how its work divides: the same for every device.
#pragma once

#include "view.h"

// nullptr, or why the call is refused. A label outside the row that is not `ignore` gives NaN: it is not looked for here.
inline const char* refuse(const View& loss, const View& logits, const View& labels, int64_t ignore) {
  Rows rows;
  if (!is_half_or_float(logits)) return "logits must be float32, float16 or bfloat16";
  if (loss.dtype != F32) return "loss must be float32";
  if (labels.dtype != I64) return "labels must be int64";
  if (logits.ndim != 2 || loss.ndim != 1 || labels.ndim != 1) return "logits must be (rows, classes), loss and labels (rows)";
  if (loss.size[0] != logits.size[0] || labels.size[0] != logits.size[0]) return "loss and labels must have a value a row";
  if (logits.size[1] == 0) return "there must be a class";
  if (!as_rows(logits, rows)) return "rows of logits must be dense";
  if (!as_rows(loss, rows) || !as_rows(labels, rows)) return "loss and labels must be dense";
  return nullptr;
}

// Independent pieces of work, and the elements in each.
inline int64_t pieces(const View& loss, const View& logits, const View& labels, int64_t ignore) {
  return logits.size[0];
}

inline int64_t piece_size(const View& loss, const View& logits, const View& labels, int64_t ignore) {
  return logits.size[1];
}
