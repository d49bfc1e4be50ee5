// Bytes that travel inside a page.
#pragma once

#include <string>
#include <string_view>

namespace cresco::report {

std::string base64(std::string_view bytes);

// A zlib stream (RFC 1950), which browsers call "deflate".
std::string compressed(std::string_view bytes);

}  // namespace cresco::report
