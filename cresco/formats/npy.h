// NumPy's .npy files (versions 1 to 3 are read, version 1 is written) and their headers, which the
// members of .npz files have as well. See docs/formats/npy.md.
#pragma once

#include "cresco/base/files.h"
#include "cresco/formats/stored_tensor.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cresco::formats {

constexpr std::string_view kNpyMagic("\x93NUMPY", 6);

// The types as headers describe them.
constexpr std::pair<std::string_view, DType> kNpyTypes[] = {
    {"<f4", DType::F32}, {"<f8", DType::F64}, {"<f2", DType::F16}, {"<i8", DType::I64},
    {"<i4", DType::I32}, {"<i2", DType::I16}, {"|i1", DType::I8},  {"<u8", DType::U64},
    {"<u4", DType::U32}, {"<u2", DType::U16}, {"|u1", DType::U8},  {"|b1", DType::Bool},
    {"<c8", DType::C64}};

// A mapped array: row-major and little-endian (others are refused with what to do about it).
struct NpyFile {
  std::shared_ptr<MappedFile> file;
  DType dtype = DType::F32;
  std::vector<std::int64_t> shape;
  Bytes bytes;
};

struct NpyHeader {
  DType dtype = DType::F32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // in elements; empty unless the array is stored by columns
  std::int64_t header_bytes = 0;      // the data begins behind them
};

constexpr std::int64_t kNpyStartBytes = 12;
// How many bytes to read for parse_npy_header, from a file's first kNpyStartBytes (or all it has).
std::int64_t npy_header_bytes(Bytes start, const std::string& where);
// `header` is that many bytes; `num_bytes` is the size of the whole file, which has to be what the
// header says.
NpyHeader parse_npy_header(Bytes header, std::int64_t num_bytes, const std::string& where);

// The array in bytes [begin, begin + num_bytes) of a file, or in a whole one; its name is `name`,
// or empty. Arrays that NumPy stored by columns are read as well.
StoredTensor npy_tensor(std::shared_ptr<const InputFile> file, std::int64_t begin,
                        std::int64_t num_bytes, std::string name);
StoredTensor open_npy(const Path& path);

NpyFile read_npy(const Path& path);
// The same from bytes in memory; `file` stays empty.
NpyFile parse_npy(Bytes bytes, const std::string& where);

// Any integer type, as 64-bit numbers; Error for floats.
std::vector<std::int64_t> npy_integers(const NpyFile& array, const std::string& where);
// F16 is not converted: F32 and F64 only.
std::vector<double> npy_numbers(const NpyFile& array, const std::string& where);

// What stands before the data of an array. Error for types that NumPy does not have.
std::string npy_header(DType dtype, std::span<const std::int64_t> shape, const std::string& where);

// Writes an array piece by piece, for those that should not stand in memory whole.
class NpyWriter {
 public:
  NpyWriter(const Path& path, DType dtype, std::span<const std::int64_t> shape);
  void write(Bytes bytes);
  void commit();  // Error when the bytes are not those of the shape

 private:
  AtomicFile file_;
  std::string path_;
  std::int64_t expected_ = 0, written_ = 0;
};

void write_npy(const Path& path, DType dtype, std::span<const std::int64_t> shape, Bytes bytes);

template <class Number>
constexpr DType dtype_of_number();
template <>
constexpr DType dtype_of_number<float>() {
  return DType::F32;
}
template <>
constexpr DType dtype_of_number<double>() {
  return DType::F64;
}
template <>
constexpr DType dtype_of_number<std::int32_t>() {
  return DType::I32;
}
template <>
constexpr DType dtype_of_number<std::int64_t>() {
  return DType::I64;
}
template <>
constexpr DType dtype_of_number<std::uint32_t>() {
  return DType::U32;
}
template <>
constexpr DType dtype_of_number<std::uint16_t>() {
  return DType::U16;
}

template <class Number>
void write_npy(const Path& path, std::span<const std::int64_t> shape,
               const std::vector<Number>& values) {
  write_npy(path, dtype_of_number<Number>(), shape, std::as_bytes(std::span(values)));
}

}  // namespace cresco::formats
