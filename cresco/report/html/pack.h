// Numbers and texts on their way into a page: compressed, in base64, decoded by the page's script
// when they are first looked at.
#pragma once

#include "cresco/report/markup.h"

#include <bit>
#include <cstdint>
#include <string>
#include <vector>

namespace cresco::report::html {

// Arrays that are needed together. A number's bytes are spread over planes, the lowest first: byte
// b of number i of n stands at b n + i, so that what is alike stands together and compresses.
class Pack {
 public:
  void add(std::string_view name, const std::vector<std::uint8_t>& values);
  void add(std::string_view name, const std::vector<std::int16_t>& values);
  void add(std::string_view name, const std::vector<std::uint16_t>& values);
  void add(std::string_view name, const std::vector<std::uint32_t>& values);
  void add(std::string_view name, const std::vector<float>& values);
  void add_text(std::string_view name, std::string_view utf8);

  // <script type="text/plain" class="pack">: data-layout says "name type count name type count
  // ...", data-bytes how much it is before compression.
  void write(Markup& out, std::string_view name) const;

 private:
  void describe(std::string_view name, std::string_view type, std::size_t count);
  template <class Number>
  void add_planes(std::string_view name, std::string_view type, const std::vector<Number>& values);

  std::string layout_, bytes_;
};

}  // namespace cresco::report::html
