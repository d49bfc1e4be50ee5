// Any bytes as a tokenizer.json: an Error, or a tokenizer that encodes the same bytes, decodes the
// ids and is read again from what it writes.
#include "cresco/base/require.h"
#include "cresco/text/tokenizer.h"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  // What stands behind a NUL byte is the text to encode; without one the file itself is.
  const std::size_t end = input.find('\0');
  const std::string_view json = input.substr(0, end);
  const std::string_view text = end == std::string_view::npos ? json : input.substr(end + 1);
  try {
    const auto tokenizer = cresco::text::Tokenizer::from_json(json, "fuzz");
    for (const bool parse_special : {true, false}) {
      cresco::text::Encoder encoder(tokenizer, {.parse_special = parse_special});
      std::vector<std::int32_t> ids, again;
      encoder.encode(text, ids);
      encoder.encode(text, again);
      if (ids != again) std::abort();
      tokenizer.decode(ids);
    }
    const auto read = cresco::text::Tokenizer::from_json(tokenizer.to_json(), "written");
    if (!(read.parts() == tokenizer.parts())) std::abort();
  } catch (const cresco::Error&) {
  }
  return 0;
}
