// A tensor in a file: where its numbers lie and how they are laid out. Every reader of weights
// (safetensors, PyTorch's .pt, npy, llm.c) finds these from headers alone; the numbers are read
// when they are asked for.
#pragma once

#include "cresco/base/input_file.h"
#include "cresco/formats/dtype.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cresco::formats {

struct StoredTensor {
  std::string name;
  DType dtype = DType::F32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // in elements; empty is row-major
  std::shared_ptr<const InputFile> file;
  std::int64_t offset = 0;  // of the first element, in bytes

  std::int64_t num_elements() const;  // readers have checked that these do not overflow
  std::int64_t num_bytes() const;
  bool is_row_major() const;  // sizes of 1 may have any stride
  std::string where() const;  // "<file>: tensor '<name>'", for messages
};

// All elements, row-major and little-endian; out has num_bytes().
void read(const StoredTensor& tensor, std::span<std::byte> out);

// The same bytes in order, in pieces of at most `piece_bytes`, a multiple of the element's size. A
// strided view holds the part of the file that it spans in memory meanwhile, any other one piece.
void read_pieces(const StoredTensor& tensor, std::int64_t piece_bytes,
                 const std::function<void(Bytes)>& piece);

// The tensor of that name, or null; `tensor_named` fails and names what is near.
const StoredTensor* find_tensor(const std::vector<StoredTensor>& tensors, std::string_view name);
const StoredTensor& tensor_named(const std::vector<StoredTensor>& tensors, std::string_view name,
                                 const std::string& where);

}  // namespace cresco::formats
