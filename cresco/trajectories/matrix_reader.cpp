#include "cresco/trajectories/matrix_reader.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>
#include <fnmatch.h>

#include <algorithm>

namespace cresco::trajectories {
namespace {

using formats::StoredTensor;

constexpr std::int64_t kPieceBytes = 8 << 20;

// Rows [begin, end) of a matrix, as a tensor of their own.
StoredTensor slice_rows(StoredTensor matrix, std::int64_t begin, std::int64_t end) {
  const std::int64_t stride = matrix.strides.empty() ? matrix.shape[1] : matrix.strides[0];
  matrix.offset += begin * stride * (bits_of(matrix.dtype) / 8);
  matrix.shape[0] = end - begin;
  return matrix;
}

StoredTensor transpose(StoredTensor matrix) {
  if (matrix.strides.empty()) matrix.strides = {matrix.shape[1], 1};
  std::swap(matrix.shape[0], matrix.shape[1]);
  std::swap(matrix.strides[0], matrix.strides[1]);
  return matrix;
}

const families::MatrixPart* find_part(const std::vector<families::MatrixPart>& parts,
                                      const std::string& name) {
  const auto found =
      std::find_if(parts.begin(), parts.end(), [&](const auto& part) { return part.name == name; });
  return found == parts.end() ? nullptr : &*found;
}

const families::MatrixPart& part_named(const std::vector<families::MatrixPart>& parts,
                                       const std::string& name, const std::string& where) {
  if (const auto* part = find_part(parts, name)) return *part;
  std::vector<std::string> names;
  for (const auto& part : parts) names.push_back(part.name);
  fail("{}: its family has no matrix '{}'{}", where, escape_for_terminal(name),
       did_you_mean(name, names));
}

// Rows of one tensor as float64, all at once, its bytes added to `hash`.
at::Tensor read_double(const std::vector<StoredTensor>& parts, Sha256& hash) {
  std::vector<at::Tensor> rows;
  for (const StoredTensor& part : parts) {
    const at::Tensor stored = tensor::to_tensor(part);
    hash.update(tensor::view_of("", stored).bytes);
    rows.push_back(stored.to(at::kDouble));
  }
  return at::cat(rows);
}

// A head's name "W_QK.3.5" taken apart.
struct HeadName {
  std::string product;  // "W_QK", "W_OV"
  std::int64_t layer = 0, head = 0;
};

std::optional<HeadName> parse_head(const std::string& name) {
  const auto words = split(name, '.');
  if (words.size() != 3 || (words[0] != "W_QK" && words[0] != "W_OV")) return std::nullopt;
  const std::string what = fmt::format("'{}' (a layer and a head: W_QK.3.5)", name);
  return HeadName{words[0], parse_int(words[1], what), parse_int(words[2], what)};
}

}  // namespace

std::vector<StoredTensor> stored_rows(const Snapshot& snapshot, const families::MatrixPart& part) {
  // Of a tied model a file may hold either of the two embeddings.
  const bool is_embedding = part.name == "W_U" || part.name == "W_E";
  StoredTensor whole = snapshot.tensor(is_embedding ? snapshot.resolve(part.name) : part.tensor);
  snapshot.require_shape(whole);
  require(whole.shape.size() <= 2 && !whole.shape.empty(),
          "{}: has shape {}, expected a matrix or a vector", whole.where(),
          formats::shape_text(whole.shape));
  const bool is_vector = whole.shape.size() == 1;
  if (part.transposed && !is_vector) whole = transpose(std::move(whole));
  std::vector<StoredTensor> rows;
  for (const families::RowRange& range : part.rows) {
    require(range.begin >= 0 && range.begin <= range.end && range.end <= whole.shape[0],
            "{}: rows {} to {} are wanted, it has {}: does the config fit the tensors?",
            whole.where(), range.begin, range.end, whole.shape[0]);
    if (is_vector) {
      StoredTensor piece = whole;
      piece.offset +=
          range.begin * (whole.strides.empty() ? 1 : whole.strides[0]) * (bits_of(whole.dtype) / 8);
      piece.shape[0] = range.end - range.begin;
      rows.push_back(std::move(piece));
    } else {
      rows.push_back(slice_rows(whole, range.begin, range.end));
    }
  }
  if (part.rows.empty()) rows.push_back(std::move(whole));
  return rows;
}

MatrixReader::MatrixReader(const Snapshot& snapshot, const std::string& name, bool fold_ln)
    : where_(fmt::format("{}: '{}'", snapshot.where(), escape_for_terminal(name))) {
  if (!snapshot.has(name) && parse_head(name))
    use_head(snapshot, name);
  else if (fold_ln)
    use_folded(snapshot, name == "b_U");
  else
    use_stored(snapshot, name);
  require(rows_ > 0 && width_ > 0, "{}: '{}' has shape ({}, {}): nothing to read", snapshot.where(),
          escape_for_terminal(name), rows_, width_);
}

void MatrixReader::use_stored(const Snapshot& snapshot, const std::string& name) {
  const auto& parts = snapshot.matrices();
  const auto* part = snapshot.has(name) ? nullptr : find_part(parts, name);
  const bool is_mathematical = name.starts_with("W_") || name.starts_with("b_");
  if (part)
    parts_ = stored_rows(snapshot, *part);
  else if (is_mathematical && !parts.empty() && !snapshot.has(name))
    part_named(parts, name, snapshot.where());  // fails and names what is near
  else
    parts_ = {snapshot.tensor(snapshot.resolve(name))};
  note_ = snapshot.note();
  const std::size_t rank = parts_[0].shape.size();
  require(rank == 1 || rank == 2, "{}: has shape {}, a stack holds matrices and vectors",
          parts_[0].where(), formats::shape_text(parts_[0].shape));
  dtype_ = parts_[0].dtype;
  // A vector is one row, whose parts stand one after the other.
  width_ = rank == 2 ? parts_[0].shape[1] : 0;
  for (const StoredTensor& part : parts_) (rank == 2 ? rows_ : width_) += part.shape[0];
  if (rank == 1) rows_ = 1;
}

void MatrixReader::use_folded(const Snapshot& snapshot, bool is_bias) {
  const auto& parts = snapshot.matrices();
  require(!parts.empty(),
          "{}: has no config of a known family: which norm stands before the readout is not known",
          snapshot.where());
  use_stored(snapshot, "W_U");
  const auto vector = [&](const char* name) {
    Sha256 unused;
    return read_double(stored_rows(snapshot, part_named(parts, name, snapshot.where())), unused);
  };
  const at::Tensor factor = is_bias ? vector("ln_final.b") : vector("ln_final.w");
  require(factor.numel() == width_, "{}: the final norm has {} entries, W_U is {} wide",
          snapshot.where(), factor.numel(), width_);
  if (is_bias)
    transform_ = [factor](const at::Tensor& rows) { return rows.matmul(factor); };
  else
    transform_ = [factor](const at::Tensor& rows) { return rows * factor; };
  note_ = is_bias ? "W_U times the bias of the final norm"
                  : "W_U diag(gain of the final norm): the readout of the normalised state";
  if (is_bias) std::swap(rows_, width_), rows_ = 1;
  dtype_ = formats::DType::F32;
}

void MatrixReader::use_head(const Snapshot& snapshot, const std::string& name) {
  const HeadName wanted = *parse_head(name);
  const families::Family* family = snapshot.family();
  const auto& parts = snapshot.matrices();
  require(family && !parts.empty(),
          "{}: has no config of a known family: where its heads lie is not known",
          snapshot.where());
  const families::AttentionSizes sizes = family->attention(snapshot.config(), snapshot.where());
  require(wanted.layer >= 0 && wanted.layer < sizes.layers && wanted.head >= 0 &&
              wanted.head < sizes.heads,
          "{}: has {} layers of {} heads, '{}' is none of them", snapshot.where(), sizes.layers,
          sizes.heads, name);
  const auto part = [&](const char* letter) {
    return stored_rows(
        snapshot, part_named(parts, fmt::format("{}.{}", letter, wanted.layer), snapshot.where()));
  };
  const std::int64_t size = sizes.head_size;
  const std::int64_t kv_head = wanted.head / (sizes.heads / sizes.key_value_heads);
  // Head after head, so that a head is a range of rows (of W_O: of columns).
  const auto head_rows = [size](const std::vector<StoredTensor>& rows, std::int64_t head,
                                Sha256& hash) {
    std::vector<StoredTensor> found;
    std::int64_t first = 0;
    for (const StoredTensor& piece : rows) {
      const std::int64_t begin = std::max(first, head * size),
                         end = std::min(first + piece.shape[0], (head + 1) * size);
      if (begin < end) found.push_back(slice_rows(piece, begin - first, end - first));
      first += piece.shape[0];
    }
    return read_double(found, hash);
  };
  if (wanted.product == "W_QK") {
    const auto W_Q = part("W_Q"), W_K = part("W_K");
    rows_ = width_ = W_Q[0].shape[1];
    whole_ = [=, head = wanted.head] {
      Sha256 hash;
      const at::Tensor q_HD = head_rows(W_Q, head, hash);
      const at::Tensor k_HD = head_rows(W_K, kv_head, hash);
      return std::pair(q_HD.t().matmul(k_HD), hash.hex());
    };
    note_ = "W_Q^T W_K of one head, without rotary, norms, biases and the 1/sqrt(head size)";
    return;
  }
  const auto W_O = part("W_O"), W_V = part("W_V");
  rows_ = width_ = W_V[0].shape[1];
  whole_ = [=, head = wanted.head] {
    Sha256 hash;
    std::vector<StoredTensor> columns;
    for (const StoredTensor& piece : W_O)
      columns.push_back(slice_rows(transpose(piece), head * size, (head + 1) * size));
    const at::Tensor o_HD = read_double(columns, hash);
    const at::Tensor v_HD = head_rows(W_V, kv_head, hash);
    return std::pair(o_HD.t().matmul(v_HD), hash.hex());
  };
  note_ = "W_O W_V of one head, without biases";
}

std::string MatrixReader::read(formats::DType dtype,
                               const std::function<void(Bytes)>& piece) const {
  const at::ScalarType type = tensor::scalar_type(dtype);
  const auto give = [&](const at::Tensor& rows) {
    const at::Tensor out = rows.to(type).contiguous();
    require(out.isfinite().equal(rows.isfinite()),
            "{}: holds numbers up to {:.6g}, which {} cannot hold", where_,
            rows.abs().max().item<double>(), formats::name_of(dtype));
    piece(tensor::view_of("", out).bytes);
  };
  if (whole_) {
    const auto [matrix, hash] = whole_();
    give(matrix);
    return hash;
  }
  Sha256 hash;
  for (const StoredTensor& part : parts_) {
    const std::int64_t row_bytes =
        std::max<std::int64_t>(1, part.num_bytes() / std::max<std::int64_t>(1, part.shape[0]));
    const std::int64_t rows_a_piece = std::max<std::int64_t>(1, kPieceBytes / row_bytes);
    formats::read_pieces(part, rows_a_piece * row_bytes, [&](Bytes bytes) {
      hash.update(bytes);
      if (!transform_ && dtype == part.dtype) return piece(bytes);
      const auto rows = static_cast<std::int64_t>(bytes.size()) / row_bytes;
      std::vector<std::int64_t> shape = part.shape;
      shape[0] = rows;
      const at::Tensor stored = at::from_blob(const_cast<std::byte*>(bytes.data()), shape,
                                              tensor::scalar_type(part.dtype));
      give(transform_ ? transform_(stored.to(at::kDouble)) : stored);
    });
  }
  return hash.hex();
}

std::vector<std::string> matching_matrices(const Snapshot& snapshot, const std::string& pattern) {
  std::vector<std::string> names, found;
  for (const families::MatrixPart& part : snapshot.matrices()) names.push_back(part.name);
  if (const families::Family* family = snapshot.family(); family && !names.empty()) {
    const auto sizes = family->attention(snapshot.config(), snapshot.where());
    for (const char* product : {"W_QK", "W_OV"})
      for (std::int64_t layer = 0; layer < sizes.layers; ++layer)
        for (std::int64_t head = 0; head < sizes.heads; ++head)
          names.push_back(fmt::format("{}.{}.{}", product, layer, head));
  }
  const auto match = [&](const std::string& name) {
    if (::fnmatch(pattern.c_str(), name.c_str(), 0) == 0) found.push_back(name);
  };
  for (const std::string& name : names) match(name);
  if (!found.empty()) return found;
  for (const StoredTensor& tensor : snapshot.tensors())
    if (tensor.shape.size() == 1 || tensor.shape.size() == 2) match(tensor.name);
  require(!found.empty(), "{}: no matrix and no tensor matches '{}'", snapshot.where(),
          escape_for_terminal(pattern));
  return found;
}

}  // namespace cresco::trajectories
