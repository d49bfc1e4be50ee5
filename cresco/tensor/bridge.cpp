#include "cresco/tensor/bridge.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/base/threads.h"
#include "cresco/formats/npy.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <malloc.h>

#include <bit>

namespace cresco::tensor {

using formats::DType;

namespace {

constexpr std::pair<DType, at::ScalarType> kTypes[] = {
    {DType::Bool, at::kBool},
    {DType::U8, at::kByte},
    {DType::I8, at::kChar},
    {DType::F8_E5M2, at::kFloat8_e5m2},
    {DType::F8_E4M3, at::kFloat8_e4m3fn},
    {DType::F8_E4M3FNUZ, at::kFloat8_e4m3fnuz},
    {DType::F8_E5M2FNUZ, at::kFloat8_e5m2fnuz},
    {DType::I16, at::kShort},
    {DType::F16, at::kHalf},
    {DType::BF16, at::kBFloat16},
    {DType::I32, at::kInt},
    {DType::F32, at::kFloat},
    {DType::C64, at::kComplexFloat},
    {DType::F64, at::kDouble},
    {DType::I64, at::kLong},
};

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  for (const auto& [file, torch] : kTypes)
    if (file == dtype) return torch;
  fail("tensors of type {} can be stored but not computed with", formats::name_of(dtype));
}

DType dtype_of(const at::Tensor& tensor) {
  for (const auto& [file, torch] : kTypes)
    if (torch == tensor.scalar_type()) return file;
  fail("tensors of LibTorch's type {} cannot be stored", c10::toString(tensor.scalar_type()));
}

at::ScalarType scalar_type_named(const std::string& name, const std::string& field) {
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp16") return at::kHalf;
  fail_usage("{} '{}' is not one of fp32, bf16, fp16", field, name);
}

at::Tensor to_tensor(const formats::StoredTensor& stored) {
  at::Tensor tensor = at::empty(stored.shape, scalar_type(stored.dtype));
  formats::read(stored, {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()});
  return tensor;
}

namespace {

// Numbers that are not finite have all bits of the exponent set. Of so many at once that the
// compiler takes several in a step.
bool all_finite(const float* numbers, std::int64_t count) {
  constexpr std::int64_t kTogether = 1024;
  constexpr std::uint32_t kExponent = 0x7f80'0000;
  const auto is_odd = [&](std::int64_t i) {
    return static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(numbers[i]) & kExponent) ==
                                      kExponent);
  };
  std::int64_t i = 0;
  for (; i + kTogether <= count; i += kTogether) {
    std::uint32_t odd = 0;
    for (std::int64_t j = 0; j < kTogether; ++j) odd |= is_odd(i + j);
    if (odd) return false;
  }
  for (; i < count; ++i)
    if (is_odd(i)) return false;
  return true;
}

}  // namespace

bool all_finite(const at::Tensor& tensor) {
  constexpr std::int64_t kPiece = 1 << 20;
  const at::Tensor flat = tensor.reshape({-1});  // a view of what is contiguous
  if (flat.is_cpu() && flat.scalar_type() == at::kFloat && flat.is_contiguous())
    return all_finite(flat.const_data_ptr<float>(), flat.numel());
  for (std::int64_t i = 0; i < flat.numel(); i += kPiece)
    if (!flat.slice(0, i, i + kPiece).isfinite().all().item<bool>()) return false;
  return true;
}

formats::TensorView view_of(const std::string& name, const at::Tensor& tensor) {
  TORCH_INTERNAL_ASSERT(tensor.is_contiguous() && tensor.is_cpu());
  return {name,
          dtype_of(tensor),
          tensor.sizes().vec(),
          {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}};
}

void write_tensors(const Path& path, const std::vector<NamedTensor>& tensors,
                   const formats::Metadata& metadata) {
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.detach().to(at::kCPU).contiguous());
    views.push_back(view_of(name, kept.back()));
  }
  formats::write_safetensors(path, std::move(views), metadata);
}

void write_npy(const Path& path, const at::Tensor& array) {
  const at::Tensor floats = array.detach().to(at::kCPU, at::kFloat).contiguous();
  formats::write_npy(path, DType::F32, floats.sizes().vec(), view_of("", floats).bytes);
}

at::Device parse_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  require_usage(name == "cuda" || name.starts_with("cuda:"),
                "--device '{}' is not cpu, cuda or cuda:<number>", name);
  const std::int64_t index =
      name == "cuda" ? 0 : as_usage([&] { return parse_int(name.substr(5), "--device"); });
  require_usage(index >= 0 && index < 128, "--device {}: there is no such device", name);
  require(at::CUDAHooksRegistry()->Has("CUDAHooks"),
          "--device {}: this build has no CUDA; CMake's preset cuda makes one that has", name);
  const int visible = at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
  require(index < visible, "--device {}: {} GPUs are visible here", name, visible);
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

double free_bytes(at::Device gpu) {
  return static_cast<double>(c10::getDeviceAllocator(gpu.type())->getMemoryInfo(gpu.index()).first);
}

void configure_threads_and_allocator(std::int64_t threads) {
  require_usage(threads >= 0 && threads <= 4096, "--threads must be between 0 and 4096, got {}",
                threads);
  set_num_threads(static_cast<int>(threads));
  at::set_num_threads(num_threads());
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

}  // namespace cresco::tensor
