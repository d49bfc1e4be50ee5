#include "cresco/formats/llmc.h"

#include "cresco/base/require.h"

#include <array>

namespace cresco::formats {
namespace {

constexpr std::int64_t kHeaderBytes = 256 * 4;
constexpr std::int64_t kMostLayers = 100'000;

// A kind of tensor: rows and columns in multiples of C; no columns for a vector.
struct LayerTensor {
  const char* name;
  int rows, columns;
};

constexpr LayerTensor kLayerTensors[] = {
    {"ln_1.weight", 1, 0},      {"ln_1.bias", 1, 0},          {"attn.c_attn.weight", 3, 1},
    {"attn.c_attn.bias", 3, 0}, {"attn.c_proj.weight", 1, 1}, {"attn.c_proj.bias", 1, 0},
    {"ln_2.weight", 1, 0},      {"ln_2.bias", 1, 0},          {"mlp.c_fc.weight", 4, 1},
    {"mlp.c_fc.bias", 4, 0},    {"mlp.c_proj.weight", 1, 4},  {"mlp.c_proj.bias", 1, 0},
};

LlmcHeader read_header(const InputFile& file) {
  const std::string where = file.path().string();
  require(file.size() >= kHeaderBytes, "{}: {} bytes, too short for a model of llm.c", where,
          file.size());
  std::array<std::int32_t, 8> fields{};
  file.read(0, std::as_writable_bytes(std::span(fields)));
  require(fields[0] == kLlmcMagic, "{}: begins with {}, a model of llm.c with {}", where, fields[0],
          kLlmcMagic);
  require(fields[1] == 3 || fields[1] == 5,
          "{}: version {} of llm.c's model files, known are 3 (fp32) and 5 (bf16)", where,
          fields[1]);
  const LlmcHeader header{.dtype = fields[1] == 3 ? DType::F32 : DType::BF16,
                          .max_seq_len = fields[2],
                          .vocab_size = fields[3],
                          .num_layers = fields[4],
                          .num_heads = fields[5],
                          .channels = fields[6],
                          .padded_vocab_size = fields[7]};
  require_sound(header, where);
  return header;
}

}  // namespace

void require_sound(const LlmcHeader& h, const std::string& where) {
  const auto require_positive = [&](const char* name, std::int64_t value) {
    require(value >= 1 && value <= INT32_MAX, "{}: {} is {}, expected 1 to 2^31 - 1", where, name,
            value);
  };
  require(h.dtype == DType::F32 || h.dtype == DType::BF16, "{}: {} is not a type of llm.c's files",
          where, name_of(h.dtype));
  require_positive("max_seq_len", h.max_seq_len);
  require_positive("vocab_size", h.vocab_size);
  require_positive("num_layers", h.num_layers);
  require_positive("num_heads", h.num_heads);
  require_positive("channels", h.channels);
  require_positive("padded_vocab_size", h.padded_vocab_size);
  require(h.num_layers <= kMostLayers, "{}: {} layers", where, h.num_layers);
  require(h.channels % h.num_heads == 0, "{}: {} channels cannot be split into {} heads", where,
          h.channels, h.num_heads);
  require(h.vocab_size <= h.padded_vocab_size, "{}: {} rows for a vocabulary of {}", where,
          h.padded_vocab_size, h.vocab_size);
}

std::optional<std::int64_t> llmc_file_bytes(const LlmcHeader& h) {
  const auto numbers = static_cast<__int128>(h.channels) *
                       (h.padded_vocab_size + h.max_seq_len + 2 +
                        static_cast<__int128>(h.num_layers) * (12 * h.channels + 13));
  const __int128 bytes = kHeaderBytes + numbers * (bits_of(h.dtype) / 8);
  if (bytes > INT64_MAX) return std::nullopt;
  return static_cast<std::int64_t>(bytes);
}

std::vector<TensorView> llmc_tensors(const LlmcHeader& h) {
  const std::int64_t c = h.channels;
  std::vector<TensorView> tensors{{"transformer.wte.weight", h.dtype, {h.vocab_size, c}, {}},
                                  {"transformer.wpe.weight", h.dtype, {h.max_seq_len, c}, {}}};
  for (const LayerTensor& kind : kLayerTensors)
    for (std::int64_t layer = 0; layer < h.num_layers; ++layer) {
      TensorView tensor{
          fmt::format("transformer.h.{}.{}", layer, kind.name), h.dtype, {kind.rows * c}, {}};
      if (kind.columns > 0) tensor.shape.push_back(kind.columns * c);
      tensors.push_back(std::move(tensor));
    }
  tensors.push_back({"transformer.ln_f.weight", h.dtype, {c}, {}});
  tensors.push_back({"transformer.ln_f.bias", h.dtype, {c}, {}});
  return tensors;
}

bool looks_like_llmc(const InputFile& file) {
  std::array<std::int32_t, 2> start{};
  if (file.size() < kHeaderBytes) return false;
  file.read(0, std::as_writable_bytes(std::span(start)));
  return start[0] == kLlmcMagic && start[1] > 0;  // 0: the length of a safetensors header
}

LlmcFile::LlmcFile(const Path& path) : LlmcFile(std::make_shared<InputFile>(path)) {}

LlmcFile::LlmcFile(std::shared_ptr<const InputFile> file)
    : file_(std::move(file)), header_(read_header(*file_)) {
  const auto needed = llmc_file_bytes(header_);
  require(needed && *needed == file_->size(),
          "{}: {} bytes, but its header ({} layers of width {}, {} rows of wte) needs {}: an "
          "incomplete copy?",
          path().string(), file_->size(), header_.num_layers, header_.channels,
          header_.padded_vocab_size, needed ? std::to_string(*needed) : "too many");

  std::int64_t at = kHeaderBytes;
  for (TensorView& view : llmc_tensors(header_)) {
    tensors_.push_back({.name = std::move(view.name),
                        .dtype = view.dtype,
                        .shape = std::move(view.shape),
                        .file = file_,
                        .offset = at});
    at += tensors_.back().num_bytes();
    if (tensors_.size() == 1)
      at += (header_.padded_vocab_size - header_.vocab_size) * header_.channels *
            (bits_of(header_.dtype) / 8);
  }
  // By layer, as everybody else lists them: the tensor of kind k and layer l lies at 2 + k L + l.
  const auto layers = static_cast<std::size_t>(header_.num_layers);
  std::vector<StoredTensor> by_layer{tensors_[0], tensors_[1]};
  for (std::size_t layer = 0; layer < layers; ++layer)
    for (std::size_t kind = 0; kind < std::size(kLayerTensors); ++kind)
      by_layer.push_back(tensors_[2 + kind * layers + layer]);
  by_layer.insert(by_layer.end(), tensors_.end() - 2, tensors_.end());
  tensors_ = std::move(by_layer);
}

}  // namespace cresco::formats
