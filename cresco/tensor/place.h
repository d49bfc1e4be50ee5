// Where a kernel runs that is given the tensors of a device.
#pragma once

#include "cresco/kernels/place.h"

#include <c10/core/Device.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace cresco::tensor {

// On a GPU in LibTorch's current stream. The device has to be the current one (c10::DeviceGuard).
inline kernels::Place place_of(at::Device device) {
  if (!device.is_cuda()) return {};
  return {true, c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle()};
}

}  // namespace cresco::tensor
