// Element types of tensors in files.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::formats {

// The names are those of safetensors. Types of less than a byte are known by size and copied whole.
enum class DType {
  Bool,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64
};

int bits_of(DType dtype);
std::string_view name_of(DType dtype);  // "BF16"
std::optional<DType> dtype_named(std::string_view name);

// The product, or nothing when it overflows or a size is negative.
std::optional<std::int64_t> num_elements(std::span<const std::int64_t> shape);
// The bytes of a tensor, or nothing on overflow or when its bits don't fill whole bytes.
std::optional<std::int64_t> num_bytes(DType dtype, std::span<const std::int64_t> shape);

// (50304, 768), for messages.
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace cresco::formats
