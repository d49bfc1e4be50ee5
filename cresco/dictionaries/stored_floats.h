// The floating-point tensors of one file, by name.
#pragma once

#include "cresco/formats/stored_tensor.h"

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::dictionaries {

// ShapesOnly: the tensors lie on LibTorch's meta device, and nothing but headers is read.
enum class Numbers { Read, ShapesOnly };

class StoredFloats {
 public:
  StoredFloats(std::string where, std::vector<formats::StoredTensor> tensors,
               Numbers numbers = Numbers::Read)
      : where_(std::move(where)), tensors_(std::move(tensors)), numbers_(numbers) {}

  const std::string& where() const { return where_; }
  const std::vector<formats::StoredTensor>& tensors() const { return tensors_; }
  bool has(const std::string& name) const { return formats::find_tensor(tensors_, name); }
  // Error that names what is there instead.
  const std::vector<std::int64_t>& shape(const std::string& name) const;

  // As float32. Error for another shape, integers, and numbers that are not finite.
  at::Tensor read(const std::string& name, const std::vector<std::int64_t>& shape) const;
  // The same where one head may stand without its axis of length 1.
  at::Tensor heads(const std::string& name, const std::vector<std::int64_t>& shape) const;
  // Logarithms: Error too where exp of a number is not finite.
  at::Tensor logarithms(const std::string& name, const std::vector<std::int64_t>& shape) const;

  // Error for a tensor that was neither read nor is one of `others`: the file is not what it is
  // taken for. An other that ends with a dot stands for all that begin with it.
  void require_all_read(const std::string& kind,
                        std::initializer_list<std::string_view> others = {}) const;

 private:
  std::string where_;
  std::vector<formats::StoredTensor> tensors_;
  Numbers numbers_;
  mutable std::set<std::string> read_;  // names
};

}  // namespace cresco::dictionaries
