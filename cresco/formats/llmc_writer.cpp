#include "cresco/base/require.h"
#include "cresco/formats/llmc.h"

#include <algorithm>
#include <array>

namespace cresco::formats {

LlmcWriter::LlmcWriter(const Path& path, const LlmcHeader& header) : file_(path), header_(header) {
  require_sound(header, path.string());
  require(llmc_file_bytes(header).has_value(), "{}: the model is too large", path.string());
  tensors_ = llmc_tensors(header);
  std::array<std::int32_t, 256> fields{};
  const std::int64_t values[] = {kLlmcMagic,         header.dtype == DType::F32 ? 3 : 5,
                                 header.max_seq_len, header.vocab_size,
                                 header.num_layers,  header.num_heads,
                                 header.channels,    header.padded_vocab_size};
  std::transform(std::begin(values), std::end(values), fields.begin(),
                 [](std::int64_t value) { return static_cast<std::int32_t>(value); });
  file_.write(std::as_bytes(std::span(fields)));
}

void LlmcWriter::write(Bytes bytes) {
  require(next_ < tensors_.size(), "more tensors were written than the header gives");
  const TensorView& tensor = tensors_[next_++];
  const auto expected = num_bytes(tensor.dtype, tensor.shape).value();
  require(static_cast<std::int64_t>(bytes.size()) == expected,
          "tensor '{}' was given {} bytes, its shape {} needs {}", tensor.name, bytes.size(),
          shape_text(tensor.shape), expected);
  file_.write(bytes);
  if (next_ != 1) return;
  const std::vector<std::byte> row(
      static_cast<std::size_t>(header_.channels * bits_of(header_.dtype) / 8));
  for (std::int64_t i = header_.vocab_size; i < header_.padded_vocab_size; ++i) file_.write(row);
}

void LlmcWriter::commit() {
  require(next_ == tensors_.size(), "{} of {} tensors were written", next_, tensors_.size());
  file_.commit();
}

}  // namespace cresco::formats
