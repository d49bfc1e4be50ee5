// For verbs that write everything at their end: Ctrl-C leaves nothing behind.
#pragma once

#include "cresco/base/interrupt.h"
#include "cresco/base/progress.h"
#include "cresco/base/require.h"

namespace cresco::verbs {

inline void stop_when_interrupted(Progress& progress) {
  if (!interrupted()) return;
  progress.end();
  throw Interrupted("interrupted before a table was written");
}

}  // namespace cresco::verbs
