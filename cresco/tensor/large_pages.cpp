#include "cresco/tensor/large_pages.h"

#include <ATen/ATen.h>
#include <sys/mman.h>

#include <new>

namespace cresco::tensor {
namespace {

constexpr std::size_t kPage = std::size_t{2} << 20;

}  // namespace

at::Tensor large_zeros(at::IntArrayRef sizes, at::ScalarType dtype) {
  const std::size_t bytes =
      static_cast<std::size_t>(c10::multiply_integers(sizes)) * c10::elementSize(dtype);
  if (bytes < kPage) return at::zeros(sizes, dtype);
  // Room to align within; what is never touched takes no memory.
  const std::size_t room = (bytes + 2 * kPage - 1) / kPage * kPage;
  void* const mapped =
      ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  const auto address = reinterpret_cast<std::uintptr_t>(mapped);
  void* const aligned = reinterpret_cast<void*>((address + kPage - 1) / kPage * kPage);
  ::madvise(aligned, bytes, MADV_HUGEPAGE);  // only advice
  return at::from_blob(
      aligned, sizes, [mapped, room](void*) { ::munmap(mapped, room); }, dtype);
}

at::Tensor room(at::Tensor& buffer, at::IntArrayRef sizes, at::ScalarType dtype,
                at::Device device) {
  const std::int64_t count = c10::multiply_integers(sizes);
  if (!buffer.defined() || buffer.numel() < count || buffer.scalar_type() != dtype ||
      buffer.device() != device)
    buffer = device.is_cpu() ? large_zeros({count}, dtype)
                             : at::empty({count}, at::TensorOptions(device).dtype(dtype));
  return buffer.narrow(0, 0, count).view(sizes);
}

}  // namespace cresco::tensor
