#include "cresco/formats/torch_writer.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <bit>
#include <set>

namespace cresco::formats {
namespace {

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

void put_value(std::string& pickle, const Json& value, const std::vector<TensorView>& tensors,
               const std::string& where) {
  if (value.is_binary()) {
    const auto i = static_cast<std::size_t>(value.get_binary().subtype());
    put_tensor(pickle, tensors.at(i), i, where);
  } else if (value.is_boolean()) {
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
  } else if (value.is_array()) {
    pickle += "](";
    for (const Json& item : value) put_value(pickle, item, tensors, where);
    pickle += 'e';
  } else {
    pickle += "}(";
    for (const auto& [key, item] : value.items()) {
      put_text(pickle, key);
      put_value(pickle, item, tensors, where);
    }
    pickle += 'u';
  }
}

}  // namespace

Json torch_place(std::size_t i) { return Json::binary({}, i); }

Json torch_dictionary(const std::vector<TensorView>& tensors, const std::string& where) {
  std::set<std::string_view> names;
  Json out = Json::object();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    require(names.insert(tensors[i].name).second, "{}: two tensors are named '{}'", where,
            escape_for_terminal(tensors[i].name));
    out[tensors[i].name] = torch_place(i);
  }
  return out;
}

TorchWriter::TorchWriter(const Path& path, const Json& values, std::vector<TensorView> tensors)
    : zip_(path), tensors_(std::move(tensors)) {
  std::string pickle = "\x80\x02";
  put_value(pickle, values, tensors_, path.string());
  add_entry("data.pkl", as_bytes(pickle + '.'));
  add_entry(".format_version", as_bytes("1"));
  add_entry(".storage_alignment", as_bytes(std::to_string(kZipAlignment)));
  add_entry("byteorder", as_bytes("little"));
}

TorchWriter::TorchWriter(const Path& path, std::vector<TensorView> tensors)
    : TorchWriter(path, torch_dictionary(tensors, path.string()), tensors) {}

void TorchWriter::add_entry(const std::string& name, Bytes bytes) {
  zip_.add(kTop + name, {bytes});
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
  zip_.commit();
}

void write_torch(const Path& path, const std::vector<TensorView>& tensors) {
  write_torch(path, torch_dictionary(tensors, path.string()), tensors);
}

void write_torch_tensor(const Path& path, const TensorView& tensor) {
  write_torch(path, torch_place(0), {tensor});
}

void write_torch(const Path& path, const Json& values, const std::vector<TensorView>& tensors) {
  TorchWriter writer(path, values, tensors);
  for (const TensorView& tensor : tensors) writer.write(tensor.bytes);
  writer.commit();
}

}  // namespace cresco::formats
