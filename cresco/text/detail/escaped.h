// A token in a message: made printable only when the message is.
#pragma once

#include "cresco/base/strings.h"

#include <fmt/format.h>

namespace cresco::text {

struct Escaped {
  std::string_view bytes;
};

}  // namespace cresco::text

template <>
struct fmt::formatter<cresco::text::Escaped> : fmt::formatter<std::string> {
  template <class Context>
  auto format(const cresco::text::Escaped& token, Context& context) const {
    return fmt::formatter<std::string>::format(cresco::escape_for_terminal(token.bytes), context);
  }
};
