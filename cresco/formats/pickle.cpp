#include "cresco/formats/pickle.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <map>
#include <set>
#include <unordered_map>

namespace cresco::formats {
namespace {

using Value = PickleValue;
using Kind = PickleValue::Kind;

constexpr std::int64_t kLargestPickle = 256 << 20;
constexpr std::int64_t kBaseMemory = 64 << 20, kMemoryPerByte = 256;
constexpr std::int64_t kLongestLine = 1 << 20;
constexpr std::size_t kLongestName = 1024, kLongestKey = 4096, kLongestInt = 1024;
constexpr std::size_t kDeepest = 10'000, kMostDimensions = 64;

constexpr std::pair<std::string_view, DType> kDTypes[] = {
    {"float32", DType::F32},
    {"float", DType::F32},
    {"float64", DType::F64},
    {"double", DType::F64},
    {"float16", DType::F16},
    {"half", DType::F16},
    {"bfloat16", DType::BF16},
    {"int64", DType::I64},
    {"long", DType::I64},
    {"int32", DType::I32},
    {"int", DType::I32},
    {"int16", DType::I16},
    {"short", DType::I16},
    {"int8", DType::I8},
    {"uint8", DType::U8},
    {"uint16", DType::U16},
    {"uint32", DType::U32},
    {"uint64", DType::U64},
    {"bool", DType::Bool},
    {"complex64", DType::C64},
    {"cfloat", DType::C64},
    {"float8_e4m3fn", DType::F8_E4M3},
    {"float8_e5m2", DType::F8_E5M2},
    {"float8_e4m3fnuz", DType::F8_E4M3FNUZ},
    {"float8_e5m2fnuz", DType::F8_E5M2FNUZ},
    {"float8_e8m0fnu", DType::F8_E8M0},
};

// Known, but no types that tensors are read in.
constexpr std::string_view kOtherDTypes[] = {
    "complex32", "chalf",  "complex128", "cdouble",  "quint8",
    "qint8",     "qint32", "quint4x2",   "quint2x4", "float4_e2m1fn_x2"};

constexpr std::pair<std::string_view, DType> kStorages[] = {
    {"FloatStorage", DType::F32},        {"DoubleStorage", DType::F64},
    {"HalfStorage", DType::F16},         {"BFloat16Storage", DType::BF16},
    {"LongStorage", DType::I64},         {"IntStorage", DType::I32},
    {"ShortStorage", DType::I16},        {"CharStorage", DType::I8},
    {"ByteStorage", DType::U8},          {"BoolStorage", DType::Bool},
    {"ComplexFloatStorage", DType::C64},
};

constexpr std::string_view kUntyped[] = {"torch.storage.UntypedStorage", "torch.UntypedStorage",
                                         "torch.storage._UntypedStorage"};

constexpr std::string_view kRebuildV2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildV3 = "torch._utils._rebuild_tensor_v3";

// Names that stand for themselves or are dealt with in call().
constexpr std::string_view kKnown[] = {kRebuildV2,
                                       kRebuildV3,
                                       "torch._utils._rebuild_parameter",
                                       "torch._utils._rebuild_parameter_with_state",
                                       "torch._tensor._rebuild_from_type_v2",
                                       "torch.storage.TypedStorage",
                                       "torch.Size",
                                       "torch.device",
                                       "torch.Tensor",
                                       "torch.nn.parameter.Parameter",
                                       "collections.OrderedDict",
                                       "builtins.set",
                                       "builtins.frozenset",
                                       "builtins.bytearray",
                                       "_codecs.encode"};

template <class Table>
std::optional<DType> find_dtype(const Table& table, std::string_view name) {
  const auto found = std::find_if(std::begin(table), std::end(table),
                                  [&](const auto& entry) { return entry.first == name; });
  if (found == std::end(table)) return std::nullopt;
  return found->second;
}

template <class Table>
bool holds(const Table& table, std::string_view name) {
  return std::find(std::begin(table), std::end(table), name) != std::end(table);
}

// The type of torch.<name>, or nothing.
std::optional<DType> torch_dtype(std::string_view name) {
  return name.starts_with("torch.") ? find_dtype(kDTypes, name.substr(6)) : std::nullopt;
}

// Old files of GPU tensors say torch.cuda.FloatStorage.
std::optional<DType> storage_dtype(std::string_view name) {
  for (const std::string_view module : {"torch.cuda.", "torch."})
    if (name.starts_with(module)) return find_dtype(kStorages, name.substr(module.size()));
  return std::nullopt;
}

bool is_known(std::string_view name) {
  return holds(kKnown, name) || holds(kUntyped, name) || torch_dtype(name) || storage_dtype(name) ||
         (name.starts_with("torch.") && holds(kOtherDTypes, name.substr(6)));
}

// The bytes of a pickle one after the other, through a window of the file.
class Source {
 public:
  Source(const InputFile& file, std::int64_t begin, std::int64_t end)
      : file_(file), where_(file.path().string()), begin_(begin), at_(begin), end_(end) {}

  std::int64_t position() const { return at_; }
  std::int64_t consumed() const { return at_ - begin_; }
  template <class... Args>
  void need(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) [[unlikely]]
      fail("{}: pickle, byte {}: {}", where_, at_ - begin_,
           fmt::format(format, std::forward<Args>(args)...));
  }

  char byte() {
    if (at_ >= window_begin_ + static_cast<std::int64_t>(window_.size())) fill();
    return window_[static_cast<std::size_t>(at_++ - window_begin_)];
  }
  template <class Number>
  Number number() {
    char bytes[sizeof(Number)];
    for (char& b : bytes) b = byte();
    Number value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }
  std::string text(std::uint64_t num_bytes) {
    need(num_bytes <= static_cast<std::uint64_t>(end_ - at_),
         "text of {} bytes, but {} are left: an incomplete copy?", num_bytes, end_ - at_);
    const auto size = static_cast<std::int64_t>(num_bytes);
    need(consumed() + size <= kLargestPickle, "longer than {} bytes", kLargestPickle);
    const std::int64_t in_window = at_ - window_begin_;
    at_ += size;
    if (in_window + size <= static_cast<std::int64_t>(window_.size()))
      return window_.substr(static_cast<std::size_t>(in_window), static_cast<std::size_t>(size));
    return file_.read_text(at_ - size, size);
  }
  std::string line() {
    std::string value;
    for (char c = byte(); c != '\n'; c = byte()) {
      need(static_cast<std::int64_t>(value.size()) < kLongestLine, "a line without an end");
      value += c;
    }
    return value;
  }

 private:
  void fill() {
    need(at_ < end_, "the pickle has no end: an incomplete copy?");
    need(consumed() < kLargestPickle, "longer than {} bytes", kLargestPickle);
    window_begin_ = at_;
    window_ = file_.read_text(at_, std::min<std::int64_t>(1 << 16, end_ - at_));
  }

  const InputFile& file_;
  const std::string where_;
  std::int64_t begin_, at_, end_, window_begin_ = 0;
  std::string window_;
};

class Interpreter {
 public:
  Interpreter(const InputFile& file, std::int64_t begin, std::int64_t end,
              std::deque<Value>& values)
      : in_(file, begin, end), values_(values) {
    none_ = make(Kind::None);
    for (const bool value : {false, true}) {
      (value ? true_ : false_) = make(Kind::Bool);
      (value ? true_ : false_)->integer = value;
    }
  }

  const Value* run() {
    while (step()) {
    }
    const Value* root = pop();
    in_.need(stack_.empty() && marks_.empty(), "values are left over at its end");
    require_distinct_keys();
    return root;
  }

  std::int64_t position() const { return in_.position(); }
  auto& storages() { return storages_; }
  std::int64_t size() const { return static_cast<std::int64_t>(values_.size()) + links_; }
  std::vector<std::string> unknown_globals() const { return {unknown_.begin(), unknown_.end()}; }

 private:
  // Memory that grows with what was read, whatever the pickle says.
  void charge(std::size_t bytes) {
    memory_ += static_cast<std::int64_t>(bytes);
    in_.need(memory_ <= kBaseMemory + kMemoryPerByte * in_.consumed(),
             "its values take {} bytes, too many for its size", memory_);
  }
  void charge_links(std::size_t count) {
    links_ += static_cast<std::int64_t>(count);
    charge(count * sizeof(void*));
  }

  Value* make(Kind kind) {
    charge(sizeof(Value));
    values_.emplace_back().kind = kind;
    return &values_.back();
  }
  Value* make_text(Kind kind, std::string text) {
    charge(text.size());
    Value* value = make(kind);
    value->text = std::move(text);
    return value;
  }
  Value* make_int(std::int64_t integer) {
    Value* value = make(Kind::Int);
    value->integer = integer;
    return value;
  }
  Value* make_object(const std::string& name, const Value* arguments) {
    Value* value = make_text(Kind::Object, name);
    value->arguments = arguments;
    return value;
  }

  void push(Value* value) {
    charge(sizeof value);
    stack_.push_back(value);
  }
  void need_above_mark() {
    in_.need(stack_.size() > (marks_.empty() ? 0 : marks_.back()),
             "takes a value that isn't there");
  }
  Value* top() {
    need_above_mark();
    return stack_.back();
  }
  Value* pop() {
    Value* value = top();
    stack_.pop_back();
    return value;
  }
  std::vector<Value*> pop_to_mark() {
    in_.need(!marks_.empty(), "takes a mark that isn't there");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Value*> values(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return values;
  }
  std::vector<Value*> pop_some(std::size_t count) {
    std::vector<Value*> values(count);
    for (std::size_t i = count; i-- > 0;) values[i] = pop();
    return values;
  }

  void remember(std::uint64_t index) {
    in_.need(index <= UINT32_MAX, "a memo of number {}", index);
    if (memo_.insert_or_assign(static_cast<std::uint32_t>(index), top()).second) charge(64);
  }
  void recall(std::uint64_t index) {
    const auto found =
        index <= UINT32_MAX ? memo_.find(static_cast<std::uint32_t>(index)) : memo_.end();
    in_.need(found != memo_.end(), "recalls memo {}, which isn't there", index);
    push(found->second);
  }
  std::uint64_t index_in_line() {
    const std::string text = in_.line();
    std::uint64_t index = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    in_.need(error == std::errc() && end == text.data() + text.size() && !text.empty(),
             "a memo whose number is none");
    return index;
  }

  void push_items(Kind kind, const std::vector<Value*>& items) {
    charge_links(items.size());
    Value* value = make(kind);
    value->items.assign(items.begin(), items.end());
    push(value);
  }
  void append(Value* to, const std::vector<Value*>& items) {
    in_.need(to->kind == Kind::List || to->kind == Kind::Object, "appends to {}",
             name_of(to->kind));
    charge_links(items.size());
    to->items.insert(to->items.end(), items.begin(), items.end());
  }
  void add_to_set(Value* to, const std::vector<Value*>& items) {
    in_.need(to->kind == Kind::Set, "adds to {}", name_of(to->kind));
    for (const Value* item : items) need_hashable(item);
    charge_links(items.size());
    to->items.insert(to->items.end(), items.begin(), items.end());
  }
  void set_items(Value* to, const std::vector<Value*>& keys_and_values) {
    in_.need(to->kind == Kind::Dict || to->kind == Kind::Object, "sets a key of {}",
             name_of(to->kind));
    in_.need(keys_and_values.size() % 2 == 0, "a key without a value");
    charge_links(keys_and_values.size());
    for (std::size_t i = 0; i < keys_and_values.size(); i += 2) {
      need_hashable(keys_and_values[i]);
      to->entries.emplace_back(keys_and_values[i], keys_and_values[i + 1]);
    }
  }
  void need_hashable(const Value* key) {
    in_.need(key->kind != Kind::List && key->kind != Kind::Dict && key->kind != Kind::Set,
             "{} is used as a key", name_of(key->kind));
    in_.need(key->kind != Kind::String || key->text.size() <= kLongestKey, "a key of {} bytes",
             key->text.size());
  }

  void push_global(const std::string& module, const std::string& name) {
    in_.need(module.size() + name.size() <= kLongestName, "a global's name of {} bytes",
             module.size() + name.size());
    std::string full = fmt::format("{}.{}", module == "__builtin__" ? "builtins" : module, name);
    Value*& value = globals_[full];
    if (!value) {
      charge(256 + 2 * full.size());
      if (!is_known(full)) unknown_.insert(full);
      value = make_text(Kind::Global, std::move(full));
    }
    push(value);
  }

  std::int64_t integer(const Value* value, const char* what) {
    in_.need(value->kind == Kind::Int, "{} is {}, expected a whole number", what,
             name_of(value->kind));
    in_.need(value->integer >= 0, "{} is {}", what, value->integer);
    return value->integer;
  }
  std::vector<std::int64_t> integers(const Value* value, const char* what) {
    in_.need((value->kind == Kind::Tuple || value->kind == Kind::List) &&
                 value->items.size() <= kMostDimensions,
             "{} is {} of {}, expected a tuple of at most {} numbers", what, name_of(value->kind),
             value->items.size(), kMostDimensions);
    std::vector<std::int64_t> numbers;
    for (const Value* item : value->items) numbers.push_back(integer(item, what));
    charge(numbers.size() * sizeof(std::int64_t));
    return numbers;
  }

  // ('storage', type, key, location, number of elements[, view]).
  Value* storage_of(const Value* id) {
    in_.need(id->kind == Kind::Tuple && id->items.size() >= 2 && id->items[0]->kind == Kind::String,
             "a persistent id that is no tuple of PyTorch's");
    const auto& items = id->items;
    // A whole class with its source, as very old files have it.
    if (items[0]->text == "module" && items[1]->kind == Kind::Global)
      return make_object(items[1]->text, id);
    in_.need(items[0]->text == "storage" && (items.size() == 5 || items.size() == 6) &&
                 items[1]->kind == Kind::Global && items[2]->kind == Kind::String,
             "a persistent id that is no storage of PyTorch's");
    PickledStorage storage{.type = items[1]->text,
                           .dtype = storage_dtype(items[1]->text),
                           .is_untyped = holds(kUntyped, items[1]->text),
                           .key = items[2]->text,
                           .num_elements = integer(items[4], "a storage's size")};
    in_.need(storage.key.size() <= kLongestName, "a storage's key of {} bytes", storage.key.size());
    if (items.size() == 6 && items[5]->kind != Kind::None) {
      const auto& view = items[5]->items;
      in_.need(items[5]->kind == Kind::Tuple && view.size() == 3, "a storage's view is no triple");
      storage.view_begin = integer(view[1], "a view's begin");
      storage.view_elements = integer(view[2], "a view's size");
    }
    charge(sizeof storage + storage.type.size() + storage.key.size());
    Value* value = make(Kind::Storage);
    value->storage = std::make_shared<const PickledStorage>(std::move(storage));
    storages_.push_back(value->storage);
    return value;
  }

  // (storage, offset, sizes, strides, requires_grad, hooks[, dtype in v3][, metadata]).
  Value* tensor_of(const std::string& name, const Value* arguments) {
    const auto& items = arguments->items;
    const bool has_dtype = name == kRebuildV3;
    in_.need(items.size() >= (has_dtype ? 7u : 6u), "a tensor of {} parts", items.size());
    const auto placeholder = [&](const std::string& why) {
      unknown_.insert(why);
      return make_object(why, arguments);
    };
    if (items[0]->kind == Kind::Object) return placeholder(items[0]->text);
    in_.need(items[0]->kind == Kind::Storage, "a tensor of {}, expected a storage",
             name_of(items[0]->kind));
    const auto& storage = items[0]->storage;
    // Metadata says that the numbers are to be conjugated or negated when they are used.
    const std::size_t metadata = has_dtype ? 7 : 6;
    if (items.size() > metadata && items[metadata]->kind != Kind::None &&
        !items[metadata]->entries.empty())
      return placeholder(name + " with metadata");
    std::optional<DType> dtype = storage->dtype;
    if (has_dtype) {
      in_.need(items[6]->kind == Kind::Global, "a tensor's type is {}", name_of(items[6]->kind));
      dtype = torch_dtype(items[6]->text);
      if (!dtype) return placeholder(items[6]->text);
    }
    if (!dtype) return placeholder(storage->type);

    PickledTensor tensor{.storage = storage,
                         .dtype = *dtype,
                         .offset = integer(items[1], "a tensor's offset"),
                         .shape = integers(items[2], "a tensor's shape"),
                         .strides = integers(items[3], "a tensor's strides")};
    in_.need(tensor.shape.size() == tensor.strides.size(), "a tensor of {} sizes and {} strides",
             tensor.shape.size(), tensor.strides.size());
    charge(sizeof tensor);
    Value* value = make(Kind::Tensor);
    value->tensor = std::make_shared<const PickledTensor>(std::move(tensor));
    return value;
  }

  // The bytes of a text whose characters are all below 256, as Python 3 writes bytes for Python 2.
  std::string latin1(const std::string& text) {
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); ++i) {
      auto c = static_cast<unsigned char>(text[i]);
      if ((c & 0xfe) == 0xc2 && i + 1 < text.size())
        c = static_cast<unsigned char>(c << 6 | (text[++i] & 0x3f));
      else
        in_.need(c < 0x80, "bytes as text with characters beyond 255");
      bytes += static_cast<char>(c);
    }
    return bytes;
  }

  // What a function or class makes of its arguments. Only the names below have a meaning.
  Value* call(const Value* callable, Value* arguments) {
    in_.need(callable->kind == Kind::Global || callable->kind == Kind::Object, "calls {}",
             name_of(callable->kind));
    in_.need(arguments->kind == Kind::Tuple, "calls something with {}, expected a tuple",
             name_of(arguments->kind));
    const std::string& name = callable->text;
    if (callable->kind == Kind::Object) return make_object(name, arguments);
    const auto& items = arguments->items;
    const auto is = [&](std::size_t i, Kind kind) {
      return items.size() > i && items[i]->kind == kind;
    };
    if (name == kRebuildV2 || name == kRebuildV3) return tensor_of(name, arguments);
    if (name.starts_with("torch._utils._rebuild_parameter") && is_known(name)) {
      in_.need(is(0, Kind::Tensor) || is(0, Kind::Object), "a parameter without a tensor");
      return const_cast<Value*>(items[0]);
    }
    // A tensor that was given attributes: (function, class, its arguments, attributes).
    if (name == "torch._tensor._rebuild_from_type_v2" && is(0, Kind::Global) &&
        is(1, Kind::Global) && is(2, Kind::Tuple) &&
        (items[0]->text == kRebuildV2 || items[0]->text == kRebuildV3) &&
        (items[1]->text == "torch.Tensor" || items[1]->text == "torch.nn.parameter.Parameter"))
      return tensor_of(items[0]->text, items[2]);
    if (name == "torch.Size" && is(0, Kind::Tuple)) return const_cast<Value*>(items[0]);
    if (name == "torch.device" && is(0, Kind::String))
      return make_text(Kind::String, is(1, Kind::Int)
                                         ? fmt::format("{}:{}", items[0]->text, items[1]->integer)
                                         : items[0]->text);
    if ((name == "_codecs.encode" || name == "builtins.bytearray") && is(0, Kind::String))
      return make_text(Kind::Bytes, latin1(items[0]->text));
    if (name == "builtins.bytearray" && is(0, Kind::Bytes))
      return make_text(Kind::Bytes, items[0]->text);
    if ((name == "builtins.set" || name == "builtins.frozenset") &&
        (items.empty() || is(0, Kind::List) || is(0, Kind::Tuple))) {
      Value* set = make(Kind::Set);
      if (!items.empty()) {
        charge_links(items[0]->items.size());
        for (const Value* item : items[0]->items) need_hashable(item);
        set->items = items[0]->items;
      }
      return set;
    }
    if (name == "collections.OrderedDict") {
      Value* dict = make(Kind::Dict);
      if (items.empty()) return dict;
      in_.need(is(0, Kind::List), "an OrderedDict of {}", name_of(items[0]->kind));
      charge_links(2 * items[0]->items.size());
      for (const Value* pair : items[0]->items) {
        in_.need((pair->kind == Kind::List || pair->kind == Kind::Tuple) && pair->items.size() == 2,
                 "an OrderedDict of other things than pairs");
        need_hashable(pair->items[0]);
        dict->entries.emplace_back(pair->items[0], pair->items[1]);
      }
      return dict;
    }
    if (is_known(name)) unknown_.insert(name);  // known, but not with such arguments
    return make_object(name, arguments);
  }

  // Two's complement, the lowest byte first, of any length.
  Value* long_of(const std::string& bytes) {
    in_.need(bytes.size() <= kLongestInt, "a number of {} bytes", bytes.size());
    const bool negative = !bytes.empty() && (bytes.back() & 0x80);
    if (bytes.size() <= 8) {
      std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
      std::memcpy(&value, bytes.data(), bytes.size());
      return make_int(static_cast<std::int64_t>(value));
    }
    std::string digits;
    for (std::size_t i = bytes.size(); i-- > 0;)
      digits += fmt::format("{:02x}", static_cast<unsigned char>(bytes[i]));
    return make_text(Kind::LargeInt, (negative ? "two's complement 0x" : "0x") + digits);
  }

  Value* int_of(std::string text) {
    if (text == "00" || text == "01") return text == "01" ? true_ : false_;
    if (text.ends_with('L')) text.pop_back();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    in_.need(error == std::errc() && end == text.data() + text.size(),
             "'{}' is no whole number of 64 bits", escape_for_terminal(text.substr(0, 40)));
    return make_int(value);
  }

  Value* float_of(const std::string& text) {
    Value* value = make(Kind::Float);
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value->number);
    in_.need(error == std::errc() && end == text.data() + text.size(), "'{}' is no number",
             escape_for_terminal(text.substr(0, 40)));
    return value;
  }

  // A text in quotes, with Python's plain escapes.
  Value* quoted(const std::string& line) {
    in_.need(line.size() >= 2 && (line[0] == '\'' || line[0] == '"') && line.back() == line[0],
             "a text without its quotes");
    std::string text;
    for (std::size_t i = 1; i + 1 < line.size(); ++i) {
      if (line[i] != '\\') {
        text += line[i];
        continue;
      }
      constexpr std::string_view kNames = "\\'\"nrt", kMeanings = "\\'\"\n\r\t";
      const char escape = line[++i];
      unsigned code = 0;
      if (const auto at = kNames.find(escape);
          at != std::string_view::npos && i + 1 < line.size()) {
        text += kMeanings[at];
      } else {
        in_.need(escape == 'x' && i + 3 < line.size() &&
                     std::from_chars(&line[i + 1], &line[i + 3], code, 16).ptr == &line[i + 3],
                 "an unknown escape in a text");
        text += static_cast<char>(code);
        i += 2;
      }
    }
    return make_text(Kind::String, std::move(text));
  }

  static void append_utf8(std::string& text, unsigned code) {
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else if (code < 0x800) {
      text += static_cast<char>(0xc0 | code >> 6);
      text += static_cast<char>(0x80 | (code & 0x3f));
    } else {
      text += static_cast<char>(0xe0 | code >> 12);
      text += static_cast<char>(0x80 | (code >> 6 & 0x3f));
      text += static_cast<char>(0x80 | (code & 0x3f));
    }
  }

  // A line of Latin-1 with \uXXXX for the rest.
  Value* raw_unicode(const std::string& line) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i) {
      unsigned code = static_cast<unsigned char>(line[i]);
      if (line[i] == '\\' && i + 1 < line.size() && line[i + 1] == 'u') {
        in_.need(i + 5 < line.size() && std::from_chars(&line[i + 2], &line[i + 6], code, 16).ptr ==
                                            line.data() + i + 6,
                 "an unknown escape in a text");
        i += 5;
      }
      append_utf8(text, code);
    }
    return make_text(Kind::String, std::move(text));
  }

  // INST and OBJ of protocols 0 and 1: a class and the arguments that stand above the mark.
  Value* instance(const Value* callable, const std::vector<Value*>& arguments) {
    push_items(Kind::Tuple, arguments);
    return call(callable, pop());
  }

  bool step();
  void require_distinct_keys();

  Source in_;
  std::deque<Value>& values_;
  std::vector<Value*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, Value*> memo_;
  std::map<std::string, Value*> globals_;
  std::set<std::string> unknown_;
  std::vector<std::shared_ptr<const PickledStorage>> storages_;
  std::int64_t memory_ = 0, links_ = 0;
  Value *none_ = nullptr, *false_ = nullptr, *true_ = nullptr;
};

// One instruction; false at the last. Letters and numbers are Python's.
bool Interpreter::step() {
  const char opcode = in_.byte();
  switch (opcode) {
    case '.':
      return false;
    case '\x80': {  // protocol
      const auto protocol = in_.number<std::uint8_t>();
      in_.need(protocol <= 5, "protocol {}, known are 0 to 5", protocol);
      break;
    }
    case '\x95':  // a frame: only says how much to read at once
      in_.number<std::uint64_t>();
      break;

    // The stack and the memo.
    case '(':
      in_.need(marks_.size() < kDeepest, "nested deeper than {}", kDeepest);
      marks_.push_back(stack_.size());
      break;
    case '0':
      if (!marks_.empty() && marks_.back() == stack_.size())
        marks_.pop_back();
      else
        pop();
      break;
    case '1':
      pop_to_mark();
      break;
    case '2':
      push(top());
      break;
    case 'q':
      remember(in_.number<std::uint8_t>());
      break;
    case 'r':
      remember(in_.number<std::uint32_t>());
      break;
    case 'p':
      remember(index_in_line());
      break;
    case '\x94':
      remember(memo_.size());
      break;
    case 'h':
      recall(in_.number<std::uint8_t>());
      break;
    case 'j':
      recall(in_.number<std::uint32_t>());
      break;
    case 'g':
      recall(index_in_line());
      break;

    // Plain values.
    case 'N':
      push(none_);
      break;
    case '\x88':
      push(true_);
      break;
    case '\x89':
      push(false_);
      break;
    case 'K':
      push(make_int(in_.number<std::uint8_t>()));
      break;
    case 'M':
      push(make_int(in_.number<std::uint16_t>()));
      break;
    case 'J':
      push(make_int(in_.number<std::int32_t>()));
      break;
    case '\x8a':
      push(long_of(in_.text(in_.number<std::uint8_t>())));
      break;
    case '\x8b':
      push(long_of(in_.text(in_.number<std::uint32_t>())));
      break;
    case 'I':
    case 'L':
      push(int_of(in_.line()));
      break;
    case 'F':
      push(float_of(in_.line()));
      break;
    case 'G': {  // the highest byte first
      Value* value = make(Kind::Float);
      value->number = std::bit_cast<double>(__builtin_bswap64(in_.number<std::uint64_t>()));
      push(value);
      break;
    }
    case 'X':
    case 'T':
      push(make_text(Kind::String, in_.text(in_.number<std::uint32_t>())));
      break;
    case '\x8c':
    case 'U':
      push(make_text(Kind::String, in_.text(in_.number<std::uint8_t>())));
      break;
    case '\x8d':
      push(make_text(Kind::String, in_.text(in_.number<std::uint64_t>())));
      break;
    case 'S':
      push(quoted(in_.line()));
      break;
    case 'V':
      push(raw_unicode(in_.line()));
      break;
    case 'C':
      push(make_text(Kind::Bytes, in_.text(in_.number<std::uint8_t>())));
      break;
    case 'B':
      push(make_text(Kind::Bytes, in_.text(in_.number<std::uint32_t>())));
      break;
    case '\x8e':
    case '\x96':
      push(make_text(Kind::Bytes, in_.text(in_.number<std::uint64_t>())));
      break;

    // Containers.
    case ')':
      push_items(Kind::Tuple, {});
      break;
    case '\x85':
    case '\x86':
    case '\x87':
      push_items(Kind::Tuple, pop_some(static_cast<unsigned char>(opcode) - 0x84u));
      break;
    case 't':
      push_items(Kind::Tuple, pop_to_mark());
      break;
    case ']':
      push(make(Kind::List));
      break;
    case 'l':
      push_items(Kind::List, pop_to_mark());
      break;
    case 'a': {
      Value* item = pop();
      append(top(), {item});
      break;
    }
    case 'e': {
      const auto items = pop_to_mark();
      append(top(), items);
      break;
    }
    case '}':
      push(make(Kind::Dict));
      break;
    case 'd': {
      const auto items = pop_to_mark();
      push(make(Kind::Dict));
      set_items(top(), items);
      break;
    }
    case 's': {
      const auto items = pop_some(2);
      set_items(top(), items);
      break;
    }
    case 'u': {
      const auto items = pop_to_mark();
      set_items(top(), items);
      break;
    }
    case '\x8f':
      push(make(Kind::Set));
      break;
    case '\x90': {
      const auto items = pop_to_mark();
      add_to_set(top(), items);
      break;
    }
    case '\x91': {
      const auto items = pop_to_mark();
      push(make(Kind::Set));
      add_to_set(top(), items);
      break;
    }

    // Names and what would be calls.
    case 'c': {
      const std::string module = in_.line();
      push_global(module, in_.line());
      break;
    }
    case '\x93': {
      const Value *name = pop(), *module = pop();
      in_.need(name->kind == Kind::String && module->kind == Kind::String,
               "a global whose name is no text");
      push_global(module->text, name->text);
      break;
    }
    case 'R':
    case '\x81': {
      Value *arguments = pop(), *callable = pop();
      push(call(callable, arguments));
      break;
    }
    case '\x92': {  // the named arguments stay with the placeholder, as its state
      Value *named = pop(), *arguments = pop(), *callable = pop();
      Value* made = call(callable, arguments);
      if (made->kind == Kind::Object && !made->state) made->state = named;
      push(made);
      break;
    }
    case 'i': {
      const std::string module = in_.line();
      push_global(module, in_.line());
      Value* callable = pop();
      push(instance(callable, pop_to_mark()));
      break;
    }
    case 'o': {
      std::vector<Value*> values = pop_to_mark();
      in_.need(!values.empty(), "an instance without a class");
      const Value* callable = values.front();
      values.erase(values.begin());
      push(instance(callable, values));
      break;
    }
    case 'b': {
      Value* state = pop();
      Value* to = top();
      if (to->kind == Kind::Object) to->state = state;  // others lose nothing that we use
      break;
    }
    case 'Q':
      push(storage_of(pop()));
      break;
    default:
      in_.need(false,
               "unknown or unsupported instruction 0x{:02x}: not a pickle, or a damaged one?",
               static_cast<unsigned char>(opcode));
  }
  return true;
}

// Names and whole numbers: a dictionary that holds one of them twice could mean either value.
void Interpreter::require_distinct_keys() {
  for (const Value& dict : values_) {
    if (dict.kind != Kind::Dict || dict.entries.size() < 2) continue;
    std::set<const Value*> seen;
    std::set<std::string_view> names;
    std::set<std::int64_t> numbers;
    for (const auto& [key, value] : dict.entries) {
      if (key->kind == Kind::String)
        in_.need(seen.insert(key).second && names.insert(key->text).second,
                 "the key '{}' stands twice", escape_for_terminal(key->text.substr(0, 200)));
      if (key->kind == Kind::Int)
        in_.need(numbers.insert(key->integer).second, "the key {} stands twice", key->integer);
    }
  }
}

}  // namespace

const PickleValue* PickleValue::find(std::string_view key) const {
  for (const auto& [name, value] : entries)
    if (name->kind == Kind::String && name->text == key) return value;
  return nullptr;
}

Pickle::Pickle(const InputFile& file, std::int64_t begin, std::int64_t end) {
  Interpreter interpreter(file, begin, end, values_);
  root_ = interpreter.run();
  end_ = interpreter.position();
  size_ = interpreter.size();
  unknown_globals_ = interpreter.unknown_globals();
  storages_ = std::move(interpreter.storages());
}

std::string_view name_of(PickleValue::Kind kind) {
  constexpr std::string_view kNames[] = {"None",
                                         "a truth value",
                                         "a whole number",
                                         "a whole number beyond 64 bits",
                                         "a number",
                                         "a text",
                                         "bytes",
                                         "a list",
                                         "a tuple",
                                         "a set",
                                         "a dictionary",
                                         "a class or function",
                                         "an unknown object",
                                         "a storage",
                                         "a tensor"};
  return kNames[static_cast<std::size_t>(kind)];
}

}  // namespace cresco::formats
