#include "cresco/formats/dtype.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <limits>

namespace cresco::formats {
namespace {

struct Entry {
  DType dtype;
  std::string_view name;
  int bits;
};

constexpr std::array kTypes{
    Entry{DType::Bool, "BOOL", 8},
    Entry{DType::F4, "F4", 4},
    Entry{DType::F6_E2M3, "F6_E2M3", 6},
    Entry{DType::F6_E3M2, "F6_E3M2", 6},
    Entry{DType::U8, "U8", 8},
    Entry{DType::I8, "I8", 8},
    Entry{DType::F8_E5M2, "F8_E5M2", 8},
    Entry{DType::F8_E4M3, "F8_E4M3", 8},
    Entry{DType::F8_E8M0, "F8_E8M0", 8},
    Entry{DType::F8_E4M3FNUZ, "F8_E4M3FNUZ", 8},
    Entry{DType::F8_E5M2FNUZ, "F8_E5M2FNUZ", 8},
    Entry{DType::I16, "I16", 16},
    Entry{DType::U16, "U16", 16},
    Entry{DType::F16, "F16", 16},
    Entry{DType::BF16, "BF16", 16},
    Entry{DType::I32, "I32", 32},
    Entry{DType::U32, "U32", 32},
    Entry{DType::F32, "F32", 32},
    Entry{DType::C64, "C64", 64},
    Entry{DType::F64, "F64", 64},
    Entry{DType::I64, "I64", 64},
    Entry{DType::U64, "U64", 64},
};

const Entry& entry(DType dtype) {
  for (const Entry& e : kTypes)
    if (e.dtype == dtype) return e;
  return kTypes[0];  // every value of the enum stands above
}

}  // namespace

int bits_of(DType dtype) { return entry(dtype).bits; }

std::string_view name_of(DType dtype) { return entry(dtype).name; }

std::optional<DType> dtype_named(std::string_view name) {
  for (const Entry& e : kTypes)
    if (e.name == name) return e.dtype;
  return std::nullopt;
}

std::optional<std::int64_t> num_elements(std::span<const std::int64_t> shape) {
  // A zero anywhere makes the product zero, however large the other sizes are.
  std::int64_t product = 1;
  bool overflow = false, zero = false;
  for (const std::int64_t size : shape) {
    if (size < 0) return std::nullopt;
    if (size == 0) zero = true;
    overflow = overflow || __builtin_mul_overflow(product, size, &product);
  }
  if (zero) return 0;
  if (overflow) return std::nullopt;
  return product;
}

std::optional<std::int64_t> num_bytes(DType dtype, std::span<const std::int64_t> shape) {
  const auto elements = num_elements(shape);
  std::int64_t bits = 0;
  if (!elements || __builtin_mul_overflow(*elements, std::int64_t{bits_of(dtype)}, &bits) ||
      bits % 8 != 0)
    return std::nullopt;
  return bits / 8;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

}  // namespace cresco::formats
