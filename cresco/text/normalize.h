// Unicode's normal form C (UAX #15), of Unicode 16.0.0.
#pragma once

#include <string>
#include <string_view>

namespace cresco::text {

// True when the text is certainly in NFC. False may also mean "not known without doing the work".
bool is_nfc_quick(std::string_view utf8);

// The text in NFC. Bytes that are not UTF-8 stay as they are, and nothing combines across them.
std::string nfc(std::string_view utf8);

}  // namespace cresco::text
