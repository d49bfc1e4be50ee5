#include "cresco/report/html/pack.h"

#include "cresco/report/compact.h"

#include <fmt/format.h>

namespace cresco::report::html {

void Pack::describe(std::string_view name, std::string_view type, std::size_t count) {
  layout_ += fmt::format("{}{} {} {}", layout_.empty() ? "" : " ", name, type, count);
}

template <class Number>
void Pack::add_planes(std::string_view name, std::string_view type,
                      const std::vector<Number>& values) {
  describe(name, type, values.size());
  const std::size_t begin = bytes_.size(), n = values.size();
  bytes_.resize(begin + n * sizeof(Number));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t b = 0; b < sizeof(Number); ++b)
      bytes_[begin + b * n + i] =
          static_cast<char>(static_cast<std::uint32_t>(values[i]) >> (8 * b) & 0xff);
}

void Pack::add(std::string_view name, const std::vector<std::uint8_t>& values) {
  add_planes(name, "u8", values);
}
void Pack::add(std::string_view name, const std::vector<std::int16_t>& values) {
  add_planes(name, "i16", values);
}
void Pack::add(std::string_view name, const std::vector<std::uint16_t>& values) {
  add_planes(name, "u16", values);
}
void Pack::add(std::string_view name, const std::vector<std::uint32_t>& values) {
  add_planes(name, "u32", values);
}
void Pack::add(std::string_view name, const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  add_planes(name, "f32", bits);
}

void Pack::add_text(std::string_view name, std::string_view utf8) {
  describe(name, "text", utf8.size());
  bytes_ += utf8;
}

void Pack::write(Markup& out, std::string_view name) const {
  out.open("script", {{"type", "text/plain"},
                      {"class", "pack"},
                      {"data-name", name},
                      {"data-layout", layout_},
                      {"data-bytes", bytes_.size()}});
  out.raw(base64(compressed(bytes_))).close().line_end();
}

}  // namespace cresco::report::html
