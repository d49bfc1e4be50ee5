// Between bytes in files and LibTorch's tensors.
#pragma once

#include "cresco/formats/safetensors.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace cresco::tensor {

using NamedTensor = std::pair<std::string, at::Tensor>;

// Error for types that LibTorch cannot compute with (F4, F6, E8M0, unsigned integers past U8).
at::ScalarType scalar_type(formats::DType dtype);
formats::DType dtype_of(const at::Tensor& tensor);
// "fp32", "bf16", "fp16" of settings and file names; UsageError otherwise.
at::ScalarType scalar_type_named(const std::string& name, const std::string& field = "dtype");

// A copy in memory of our own, of the file's type and shape.
at::Tensor to_tensor(const formats::StoredTensor& stored);

// Whether no number is NaN or infinite. Takes pieces of some megabytes: `isfinite().all()` would
// make several tensors of the whole size.
bool all_finite(const at::Tensor& tensor);

// The bytes of a contiguous CPU tensor, which has to outlive the view.
formats::TensorView view_of(const std::string& name, const at::Tensor& tensor);

// The tensors are made contiguous and moved to the CPU one after the other.
void write_tensors(const Path& path, const std::vector<NamedTensor>& tensors,
                   const formats::Metadata& metadata = {});

// An array of float32, row-major, as .npy.
void write_npy(const Path& path, const at::Tensor& array);

// "cpu", "cuda" or "cuda:1". Error when the build has no CUDA or no GPU answers.
at::Device parse_device(const std::string& name);

// Bytes that are free on a GPU now.
double free_bytes(at::Device gpu);

// Threads of LibTorch and of our own loops, from --threads; 0 is all. Also makes the allocator keep
// freed pages: faulting them in again costs more than the arithmetic of small models.
void configure_threads_and_allocator(std::int64_t threads);

}  // namespace cresco::tensor
