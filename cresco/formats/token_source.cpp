#include "cresco/formats/token_source.h"

#include "cresco/base/require.h"

namespace cresco::formats {

void TokenSource::require_inside(std::int64_t first, std::int64_t count) const {
  require(first >= 0 && count <= num_tokens() && first <= num_tokens() - count,
          "{}: {} tokens from {} on asked for, it has {}", name(), count, first, num_tokens());
}

}  // namespace cresco::formats
