// Where a kernel runs that is given the tensors of a device, and waiting for it.
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

// Until a GPU has done what it was given; at once on a CPU.
inline void wait_for(at::Device device) {
  if (device.is_cuda())
    c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

}  // namespace cresco::tensor
