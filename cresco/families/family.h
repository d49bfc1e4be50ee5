// A model family as a value: what a config.json with a certain `model_type` says of the tensors in
// the files beside it. Readers, extract, lint and convert know families only through this.
#pragma once

#include "cresco/families/families.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace cresco::families {

// A matrix or vector by its mathematical name, and how it is cut out of a stored tensor. Linear
// maps are given as (out, in): y = W x + b, rows are outputs.
//   W_E, W_U, W_pos      (rows, width) embeddings, readout, positions
//   W_Q.3 W_K.3 W_V.3    all heads of layer 3, head after head: (heads * head size, width)
//   W_O.3                (width, heads * head size)
//   W_in.3 W_out.3       MLP; W_gate.3 where there is one
//   b_Q.3 ... b_out.3    their biases, where the family has them
//   ln1.w.3 ln1.b.3 ln2.w.3 ln2.b.3   the layer's norms;  ln_final.w ln_final.b   the final one
struct RowRange {
  std::int64_t begin = 0, end = 0;
};
struct MatrixPart {
  std::string name;
  std::string tensor;          // canonical Hugging Face name
  bool transposed = false;     // stored (in, out), as GPT-2's Conv1D does
  std::vector<RowRange> rows;  // of the (out, in) form, one after the other; empty is all of them
};

struct AttentionSizes {
  std::int64_t layers = 0, heads = 0, key_value_heads = 0, head_size = 0;
};

class Family {
 public:
  virtual ~Family() = default;

  virtual std::string model_type() const = 0;  // of config.json: "gpt_neox"
  // The name under which tensors() lists a tensor of a file, whatever prefix or alias the file
  // uses; empty for buffers that old files carry (masks, inverse frequencies).
  virtual std::string canonical_name(const std::string& name) const = 0;

  // All of these read and check the config first; Error with `where` and the field.
  virtual std::vector<TensorSpec> tensors(const Json& config, const std::string& where) const = 0;
  virtual std::vector<MatrixPart> matrices(const Json& config, const std::string& where) const = 0;
  virtual AttentionSizes attention(const Json& config, const std::string& where) const = 0;
  // Whether the readout is the input embedding, so that files may leave one of the two out.
  virtual bool is_tied(const Json& config, const std::string& where) const = 0;
};

// By `model_type`: gpt_neox, olmo2, gpt2; null when it is another one, or when there is none.
const Family* find_family(const Json& config);
// The same; Error that names the type and those that are known.
const Family& family_of(const Json& config, const std::string& where);

}  // namespace cresco::families
