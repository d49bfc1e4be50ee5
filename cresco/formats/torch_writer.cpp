#include "cresco/formats/torch_writer.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/formats/zip.h"

#include <bit>
#include <set>

namespace cresco::formats {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kSmall = 0xffffffff;  // from here on, sizes and positions take 64 bits
constexpr std::uint16_t kFlags = 0x0808;     // sizes follow the data; names are UTF-8
const std::string kTop = "archive/";

struct TorchType {
  DType dtype;
  const char* storage;  // null: the storage has no type, the tensor says it
  const char* name;
};

constexpr TorchType kTypes[] = {
    {DType::F32, "FloatStorage", "float32"},
    {DType::F64, "DoubleStorage", "float64"},
    {DType::F16, "HalfStorage", "float16"},
    {DType::BF16, "BFloat16Storage", "bfloat16"},
    {DType::I64, "LongStorage", "int64"},
    {DType::I32, "IntStorage", "int32"},
    {DType::I16, "ShortStorage", "int16"},
    {DType::I8, "CharStorage", "int8"},
    {DType::U8, "ByteStorage", "uint8"},
    {DType::Bool, "BoolStorage", "bool"},
    {DType::C64, "ComplexFloatStorage", "complex64"},
    {DType::U16, nullptr, "uint16"},
    {DType::U32, nullptr, "uint32"},
    {DType::U64, nullptr, "uint64"},
    {DType::F8_E4M3, nullptr, "float8_e4m3fn"},
    {DType::F8_E5M2, nullptr, "float8_e5m2"},
    {DType::F8_E4M3FNUZ, nullptr, "float8_e4m3fnuz"},
    {DType::F8_E5M2FNUZ, nullptr, "float8_e5m2fnuz"},
    {DType::F8_E8M0, nullptr, "float8_e8m0fnu"},
};

template <class Number>
void put(std::string& out, Number value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& pickle, std::string_view text) {
  pickle += 'X';
  put(pickle, static_cast<std::uint32_t>(text.size()));
  pickle += text;
}

void put_int(std::string& pickle, std::int64_t value) {
  if (value >= INT32_MIN && value <= INT32_MAX) {
    pickle += 'J';
    put(pickle, static_cast<std::int32_t>(value));
  } else {
    pickle += "\x8a\x08";
    put(pickle, value);
  }
}

void put_ints(std::string& pickle, const std::vector<std::int64_t>& values) {
  pickle += '(';
  for (const std::int64_t value : values) put_int(pickle, value);
  pickle += 't';
}

// The call that makes a tensor of storage `key`.
void put_tensor(std::string& pickle, const TensorView& tensor, std::size_t key,
                const std::string& where) {
  const TorchType* type = nullptr;
  for (const TorchType& known : kTypes)
    if (known.dtype == tensor.dtype) type = &known;
  const auto elements = num_elements(tensor.shape), bytes = num_bytes(tensor.dtype, tensor.shape);
  require(type != nullptr, "{}: tensor '{}': PyTorch has no type for {}", where,
          escape_for_terminal(tensor.name), name_of(tensor.dtype));
  require(elements && bytes, "{}: tensor '{}' of shape {} is too large", where,
          escape_for_terminal(tensor.name), shape_text(tensor.shape));
  std::vector<std::int64_t> strides(tensor.shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = strides.size(); i-- > 0;) {
    strides[i] = stride;
    if (*elements > 0) stride *= tensor.shape[i];  // of an empty tensor they mean nothing
  }
  pickle += type->storage ? "ctorch._utils\n_rebuild_tensor_v2\n(("
                          : "ctorch._utils\n_rebuild_tensor_v3\n((";
  put_text(pickle, "storage");
  pickle += type->storage ? fmt::format("ctorch\n{}\n", type->storage)
                          : "ctorch.storage\nUntypedStorage\n";
  put_text(pickle, std::to_string(key));
  put_text(pickle, "cpu");
  put_int(pickle, type->storage ? *elements : *bytes);
  pickle += "tQ";
  put_int(pickle, 0);  // offset
  put_ints(pickle, tensor.shape);
  put_ints(pickle, strides);
  pickle +=
      "\x89"
      "ccollections\nOrderedDict\n)R";  // no gradient, no hooks
  if (!type->storage) pickle += fmt::format("ctorch\n{}\n", type->name);
  pickle += "tR";
}

void put_dictionary(std::string& pickle, const std::vector<TensorView>& tensors,
                    const std::string& where) {
  pickle += "}(";
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    require(names.insert(tensors[i].name).second, "{}: two tensors are named '{}'", where,
            escape_for_terminal(tensors[i].name));
    put_text(pickle, tensors[i].name);
    put_tensor(pickle, tensors[i], i, where);
  }
  pickle += 'u';
}

void put_value(std::string& pickle, const Json& value, const std::string& where) {
  if (value.is_boolean()) {
    pickle += value.get<bool>() ? '\x88' : '\x89';
  } else if (value.is_number_integer()) {
    put_int(pickle, value.get<std::int64_t>());
  } else if (value.is_number_float()) {  // big-endian, unlike everything else
    const auto bits = std::bit_cast<std::uint64_t>(value.get<double>());
    pickle += 'G';
    for (int shift = 56; shift >= 0; shift -= 8) pickle += static_cast<char>(bits >> shift);
  } else if (value.is_string()) {
    put_text(pickle, value.get<std::string>());
  } else if (value.is_null()) {
    pickle += 'N';
  } else {
    require(value.is_object(), "{}: a list cannot be kept beside the tensors", where);
    pickle += "}(";
    for (const auto& [key, item] : value.items()) {
      put_text(pickle, key);
      put_value(pickle, item, where);
    }
    pickle += 'u';
  }
}

std::string pickle_of(const std::vector<TensorView>& tensors, TorchRoot root, const Json& beside,
                      const std::string& where) {
  std::string pickle = "\x80\x02";
  if (root == TorchRoot::Tensor) {
    require(tensors.size() == 1, "{}: {} tensors, expected one", where, tensors.size());
    put_tensor(pickle, tensors[0], 0, where);
  } else if (root == TorchRoot::Dictionary) {
    put_dictionary(pickle, tensors, where);
  } else {
    pickle += "}(";
    put_text(pickle, "model");
    put_dictionary(pickle, tensors, where);
    for (const auto& [key, value] : beside.items()) {
      put_text(pickle, key);
      put_value(pickle, value, where);
    }
    pickle += 'u';
  }
  return pickle + '.';
}

}  // namespace

TorchWriter::TorchWriter(const Path& path, std::vector<TensorView> tensors, TorchRoot root,
                         const Json& beside)
    : file_(path), tensors_(std::move(tensors)) {
  const std::string pickle = pickle_of(tensors_, root, beside, path.string());
  add_entry("data.pkl", as_bytes(pickle));
  add_entry(".format_version", as_bytes("1"));
  add_entry(".storage_alignment", as_bytes(std::to_string(kAlignment)));
  add_entry("byteorder", as_bytes("little"));
}

// A header, padding up to the alignment, the bytes, then their sizes and CRC-32.
void TorchWriter::add_entry(const std::string& name, Bytes bytes) {
  Entry entry{kTop + name, crc32_of(as_text(bytes)), static_cast<std::int64_t>(bytes.size()),
              file_.size()};
  const bool is_large = entry.bytes >= kSmall;
  std::string header;
  put(header, std::uint32_t{0x04034b50});
  put(header, static_cast<std::uint16_t>(is_large ? 45 : 20));
  put(header, kFlags);
  header.append(18, '\0');  // stored; no time; CRC-32 and sizes come after the data
  put(header, static_cast<std::uint16_t>(entry.name.size()));
  std::string extra;
  if (is_large) {
    put(extra, std::uint16_t{1});
    put(extra, std::uint16_t{16});
    put(extra, entry.bytes);
    put(extra, entry.bytes);
    std::fill_n(header.begin() + 18, 8, '\xff');
  }
  const auto begin = entry.begin + static_cast<std::int64_t>(header.size() + 2 + entry.name.size() +
                                                             extra.size() + 4);
  const auto padding = static_cast<std::uint16_t>((kAlignment - begin % kAlignment) % kAlignment);
  extra += "FB";
  put(extra, padding);
  extra.append(padding, 'Z');
  put(header, static_cast<std::uint16_t>(extra.size()));
  file_.write(header + entry.name + extra);
  file_.write(bytes);

  std::string after;
  put(after, std::uint32_t{0x08074b50});
  put(after, entry.crc32);
  for (int i = 0; i < 2; ++i) {
    if (is_large)
      put(after, entry.bytes);
    else
      put(after, static_cast<std::uint32_t>(entry.bytes));
  }
  file_.write(after);
  entries_.push_back(std::move(entry));
}

void TorchWriter::write(Bytes bytes) {
  require(next_ < tensors_.size(), "more tensors were written than the pickle names");
  const TensorView& tensor = tensors_[next_];
  const auto expected = num_bytes(tensor.dtype, tensor.shape).value();
  require(static_cast<std::int64_t>(bytes.size()) == expected,
          "tensor '{}' was given {} bytes, its shape {} needs {}", tensor.name, bytes.size(),
          shape_text(tensor.shape), expected);
  add_entry(fmt::format("data/{}", next_++), bytes);
}

void TorchWriter::commit() {
  require(next_ == tensors_.size(), "{} of {} tensors were written", next_, tensors_.size());
  add_entry("version", as_bytes("3\n"));
  const std::int64_t begin = file_.size();
  for (const Entry& entry : entries_) {
    std::string record, extra;
    const auto small = [&](std::int64_t value) {
      if (value < kSmall) return static_cast<std::uint32_t>(value);
      put(extra, value);
      return static_cast<std::uint32_t>(kSmall);
    };
    const std::uint32_t bytes = small(entry.bytes), stored = small(entry.bytes);
    const std::uint32_t position = small(entry.begin);
    put(record, std::uint32_t{0x02014b50});
    put(record, std::uint16_t{0});
    put(record, static_cast<std::uint16_t>(extra.empty() ? 20 : 45));
    put(record, kFlags);
    record.append(6, '\0');  // stored; no time
    put(record, entry.crc32);
    put(record, stored);
    put(record, bytes);
    put(record, static_cast<std::uint16_t>(entry.name.size()));
    put(record, static_cast<std::uint16_t>(extra.empty() ? 0 : extra.size() + 4));
    record.append(10, '\0');  // no comment; disk 0; no attributes
    put(record, position);
    record += entry.name;
    if (!extra.empty()) {
      put(record, std::uint16_t{1});
      put(record, static_cast<std::uint16_t>(extra.size()));
      record += extra;
    }
    file_.write(record);
  }
  const std::int64_t end = file_.size(), size = end - begin;
  const auto count = static_cast<std::int64_t>(entries_.size());

  std::string tail;
  put(tail, std::uint32_t{0x06064b50});
  put(tail, std::int64_t{44});
  put(tail, std::uint16_t{45});
  put(tail, std::uint16_t{45});
  put(tail, std::uint64_t{0});  // disks
  put(tail, count);
  put(tail, count);
  put(tail, size);
  put(tail, begin);
  put(tail, std::uint32_t{0x07064b50});
  put(tail, std::uint32_t{0});
  put(tail, end);
  put(tail, std::uint32_t{1});
  put(tail, std::uint32_t{0x06054b50});
  put(tail, std::uint32_t{0});  // disks
  put(tail, static_cast<std::uint16_t>(std::min<std::int64_t>(count, 0xffff)));
  put(tail, static_cast<std::uint16_t>(std::min<std::int64_t>(count, 0xffff)));
  put(tail, static_cast<std::uint32_t>(std::min(size, kSmall)));
  put(tail, static_cast<std::uint32_t>(std::min(begin, kSmall)));
  put(tail, std::uint16_t{0});  // no comment
  file_.write(tail);
  file_.commit();
}

void write_torch(const Path& path, const std::vector<TensorView>& tensors) {
  TorchWriter writer(path, tensors);
  for (const TensorView& tensor : tensors) writer.write(tensor.bytes);
  writer.commit();
}

void write_torch_tensor(const Path& path, const TensorView& tensor) {
  TorchWriter writer(path, {tensor}, TorchRoot::Tensor);
  writer.write(tensor.bytes);
  writer.commit();
}

}  // namespace cresco::formats
