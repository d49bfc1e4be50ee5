// Model files of llm.c (model_*.bin, gpt2_124M.bin): a GPT-2 in fp32 or bf16. See
// docs/formats/llmc.md.
#pragma once

#include "cresco/formats/safetensors.h"
#include "cresco/formats/stored_tensor.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace cresco::formats {

constexpr std::int32_t kLlmcMagic = 20240326;

// The header's fields, in its order.
struct LlmcHeader {
  DType dtype = DType::F32;  // version 3; BF16 is version 5
  std::int64_t max_seq_len = 0;
  std::int64_t vocab_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t channels = 0;           // C
  std::int64_t padded_vocab_size = 0;  // rows of wte in the file; those past the vocabulary unused
};

// Error for sizes that no model of llm.c has.
void require_sound(const LlmcHeader& header, const std::string& where);
// (Vp + T + 2) C + L (12 C^2 + 13 C) numbers behind the header, or nothing on overflow.
std::optional<std::int64_t> llmc_file_bytes(const LlmcHeader& header);

class LlmcFile {
 public:
  // Error unless the file has exactly the size that its header gives.
  explicit LlmcFile(const Path& path);
  explicit LlmcFile(std::shared_ptr<const InputFile> file);

  const Path& path() const { return file_->path(); }
  const LlmcHeader& header() const { return header_; }
  // By nanoGPT's names ("transformer.h.0.attn.c_attn.weight"), matrices as (out, in), in order of
  // layers. wte is (vocabulary, C), without the padded rows; lm_head is the same matrix and has no
  // entry.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }

 private:
  std::shared_ptr<const InputFile> file_;
  LlmcHeader header_;
  std::vector<StoredTensor> tensors_;
};

// Whether the file begins with the number that llm.c's model files do.
bool looks_like_llmc(const InputFile& file);

// Names, types and shapes in the file's own order: by kind, then by layer.
std::vector<TensorView> llmc_tensors(const LlmcHeader& header);

// One tensor after the other in the order of tensors(); the padded rows of wte are written as
// zeros.
class LlmcWriter {
 public:
  LlmcWriter(const Path& path, const LlmcHeader& header);
  const std::vector<TensorView>& tensors() const { return tensors_; }
  void write(Bytes bytes);  // of the next tensor; Error when the size is not its own
  void commit();            // Error when a tensor is missing

 private:
  AtomicFile file_;
  LlmcHeader header_;
  std::vector<TensorView> tensors_;
  std::size_t next_ = 0;
};

}  // namespace cresco::formats
