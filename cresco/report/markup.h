// Writes elements, of HTML and of SVG alike. Text and attribute values are escaped on their way in;
// only raw() trusts its argument.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace cresco::report {

// A coordinate: at most two decimals, no trailing zeros.
std::string coordinate(double value);

struct Attribute {
  Attribute(std::string_view name, std::string_view value) : name(name), value(value) {}
  Attribute(std::string_view name, const char* value) : name(name), value(value) {}
  Attribute(std::string_view name, const std::string& value) : name(name), value(value) {}
  template <class Number, class = std::enable_if_t<std::is_arithmetic_v<Number>>>
  Attribute(std::string_view name, Number value)
      : name(name), value(coordinate(static_cast<double>(value))) {}

  std::string_view name;
  std::string value;
};

using Attributes = std::initializer_list<Attribute>;

class Markup {
 public:
  Markup& open(std::string_view name, Attributes attributes = {});
  Markup& close();                                                  // the innermost open element
  Markup& leaf(std::string_view name, Attributes attributes = {});  // an element without content
  Markup& element(std::string_view name, std::string_view text) { return element(name, {}, text); }
  Markup& element(std::string_view name, Attributes attributes, std::string_view text);
  Markup& text(std::string_view text);
  Markup& line_end();
  Markup& raw(std::string_view trusted);

  const std::string& str() const { return out_; }

 private:
  void tag(std::string_view name, Attributes attributes);

  std::string out_;
  std::vector<std::string> open_;
};

}  // namespace cresco::report
