#include "cresco/formats/npy.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

namespace cresco::formats {
namespace {

// The header is a Python literal: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class HeaderReader {
 public:
  HeaderReader(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  void read(std::string& description, bool& fortran, std::vector<std::int64_t>& shape) {
    bool has_description = false, has_order = false, has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !std::exchange(has_description, true)) {
        skip_space();
        require(text_.starts_with('\''),
                "{}: 'descr' is not a plain type: structured arrays are not read", where_);
        description = quoted();
      } else if (key == "fortran_order" && !std::exchange(has_order, true)) {
        fortran = word() == "True";
      } else if (key == "shape" && !std::exchange(has_shape, true)) {
        shape = tuple();
      } else {
        fail("{}: unexpected or repeated header key '{}'", where_, escape_for_terminal(key));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    require(has_description && has_order && has_shape,
            "{}: the header lacks one of descr, fortran_order, shape", where_);
    skip_space();
    require(text_.empty(), "{}: text after the header's closing brace", where_);
  }

 private:
  void skip_space() { text_.remove_prefix(std::min(text_.find_first_not_of(" \n"), text_.size())); }
  bool accept(char c) {
    skip_space();
    if (!text_.starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char c) { require(accept(c), "{}: the header lacks a '{}'", where_, c); }
  std::string quoted() {
    expect('\'');
    const std::size_t end = text_.find('\'');
    require(end != std::string_view::npos, "{}: a quote in the header has no end", where_);
    const std::string value(text_.substr(0, end));
    text_.remove_prefix(end + 1);
    return value;
  }
  std::string_view word() {
    skip_space();
    const std::size_t end = std::min(text_.find_first_of(",}) \n"), text_.size());
    const std::string_view value = text_.substr(0, end);
    text_.remove_prefix(end);
    require(value == "True" || value == "False", "{}: fortran_order is neither True nor False",
            where_);
    return value;
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> sizes;
    expect('(');
    while (!accept(')')) {
      skip_space();
      const std::size_t end = text_.find_first_not_of("0123456789");
      require(end != 0 && end != std::string_view::npos && end < 19,
              "{}: a size in 'shape' is no number", where_);
      sizes.push_back(parse_int(text_.substr(0, end), where_));
      text_.remove_prefix(end);
      if (text_.starts_with('L')) text_.remove_prefix(1);  // as Python 2 wrote it
      require(sizes.size() <= 64, "{}: more than 64 dimensions", where_);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  std::string_view text_;
  const std::string& where_;
};

std::string_view reason_against(std::string_view description) {
  if (description.ends_with('O')) return "objects are pickles";
  if (description.starts_with('>')) return "big-endian; change it with .astype('<f4') or the like";
  if (description.find('V') != std::string_view::npos)
    return "raw bytes; bfloat16 arrays are saved like this: use safetensors, or view them as "
           "uint16";
  return "known are bool, integers, f2, f4, f8 and c8";
}

std::optional<std::int64_t> num_bytes_of(const NpyHeader& header) {
  return num_bytes(header.dtype, header.shape);
}

template <class From, class To>
std::vector<To> converted(const NpyFile& array) {
  std::vector<To> values(array.bytes.size() / sizeof(From));
  for (std::size_t i = 0; i < values.size(); ++i) {
    From value;
    std::memcpy(&value, array.bytes.data() + i * sizeof(From), sizeof value);
    values[i] = static_cast<To>(value);
  }
  return values;
}

}  // namespace

std::int64_t npy_header_bytes(Bytes start, const std::string& where) {
  require(start.size() >= 10 && as_text(start.first(6)) == kNpyMagic, "{}: not a .npy file", where);
  const auto major = static_cast<int>(start[6]);
  require(major >= 1 && major <= 3, "{}: .npy version {} is not known", where, major);
  const std::size_t prefix = major == 1 ? 10 : 12;
  require(start.size() >= prefix, "{}: {} bytes, too short for its header", where, start.size());
  std::uint32_t bytes = 0;
  std::memcpy(&bytes, start.data() + 8, major == 1 ? 2 : 4);
  require(bytes <= (1u << 20), "{}: the header claims {} bytes, allowed are 1 MiB", where, bytes);
  return static_cast<std::int64_t>(prefix + bytes);
}

NpyHeader parse_npy_header(Bytes header, std::int64_t num_bytes, const std::string& where) {
  const std::int64_t header_bytes = npy_header_bytes(header, where);
  require(header_bytes <= num_bytes && header_bytes <= static_cast<std::int64_t>(header.size()),
          "{}: the header claims {} bytes, the file has {}: an incomplete copy?", where,
          header_bytes, num_bytes);
  const std::size_t prefix = header[6] == std::byte{1} ? 10 : 12;
  std::string description;
  bool fortran = false;
  NpyHeader found{.header_bytes = header_bytes};
  HeaderReader(as_text(header.subspan(prefix, static_cast<std::size_t>(header_bytes) - prefix)),
               where)
      .read(description, fortran, found.shape);
  const auto* known = std::find_if(std::begin(kNpyTypes), std::end(kNpyTypes),
                                   [&](const auto& entry) { return entry.first == description; });
  require(known != std::end(kNpyTypes), "{}: type '{}' is not read: {}", where,
          escape_for_terminal(description), reason_against(description));
  found.dtype = known->second;
  const auto needed = num_bytes_of(found);
  require(needed && *needed == num_bytes - header_bytes,
          "{}: {} bytes of data, but shape {} of {} needs {}: an incomplete copy?", where,
          num_bytes - header_bytes, shape_text(found.shape), name_of(found.dtype),
          needed ? std::to_string(*needed) : "too many");
  if (fortran && found.shape.size() > 1 && *needed > 0) {
    std::int64_t stride = 1;
    for (const std::int64_t size : found.shape) {
      found.strides.push_back(stride);
      stride *= size;
    }
  }
  return found;
}

StoredTensor npy_tensor(std::shared_ptr<const InputFile> file, std::int64_t begin,
                        std::int64_t num_bytes, std::string name) {
  StoredTensor tensor{.name = std::move(name), .file = std::move(file)};
  const std::string where = tensor.name.empty() ? tensor.file->path().string() : tensor.where();
  const auto start = [&](std::int64_t wanted) {
    return tensor.file->read_text(begin, std::min(wanted, num_bytes));
  };
  const std::string text = start(npy_header_bytes(as_bytes(start(kNpyStartBytes)), where));
  NpyHeader header = parse_npy_header(as_bytes(text), num_bytes, where);
  tensor.dtype = header.dtype;
  tensor.shape = std::move(header.shape);
  tensor.strides = std::move(header.strides);
  tensor.offset = begin + header.header_bytes;
  return tensor;
}

StoredTensor open_npy(const Path& path) {
  const auto file = std::make_shared<InputFile>(path);
  return npy_tensor(file, 0, file->size(), "");
}

NpyFile parse_npy(Bytes bytes, const std::string& where) {
  NpyHeader header = parse_npy_header(bytes, static_cast<std::int64_t>(bytes.size()), where);
  require(header.strides.empty(),
          "{}: stored column by column; save it with numpy.ascontiguousarray first", where);
  return {.dtype = header.dtype,
          .shape = std::move(header.shape),
          .bytes = bytes.subspan(static_cast<std::size_t>(header.header_bytes))};
}

NpyFile read_npy(const Path& path) {
  auto file = std::make_shared<MappedFile>(path);
  NpyFile array = parse_npy(file->bytes(), path.string());
  array.file = std::move(file);
  return array;
}

std::vector<std::int64_t> npy_integers(const NpyFile& array, const std::string& where) {
  switch (array.dtype) {
    case DType::I64:
      return converted<std::int64_t, std::int64_t>(array);
    case DType::I32:
      return converted<std::int32_t, std::int64_t>(array);
    case DType::I16:
      return converted<std::int16_t, std::int64_t>(array);
    case DType::I8:
      return converted<std::int8_t, std::int64_t>(array);
    case DType::U64:
      return converted<std::uint64_t, std::int64_t>(array);
    case DType::U32:
      return converted<std::uint32_t, std::int64_t>(array);
    case DType::U16:
      return converted<std::uint16_t, std::int64_t>(array);
    case DType::U8:
      return converted<std::uint8_t, std::int64_t>(array);
    default:
      fail("{}: holds {}, expected whole numbers", where, name_of(array.dtype));
  }
}

std::vector<double> npy_numbers(const NpyFile& array, const std::string& where) {
  if (array.dtype == DType::F32) return converted<float, double>(array);
  if (array.dtype == DType::F64) return converted<double, double>(array);
  fail("{}: holds {}, expected F32 or F64", where, name_of(array.dtype));
}

}  // namespace cresco::formats
