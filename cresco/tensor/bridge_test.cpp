#include "cresco/tensor/bridge.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace cresco::tensor {
namespace {

TEST(Bridge, KeepsEveryBit) {
  const TemporaryFolder folder;
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong}) {
    const at::Tensor tensor = at::arange(12).reshape({3, 4}).to(type);
    write_tensors(folder / "t", {{"a", tensor}, {"transposed", tensor.t()}});
    const formats::SafetensorsFile file(folder / "t");
    EXPECT_TRUE(at::equal(to_tensor(file.tensor("a")), tensor));
    EXPECT_TRUE(at::equal(to_tensor(file.tensor("transposed")), tensor.t()));
  }
}

TEST(Bridge, RefusesUnknownNames) {
  EXPECT_THROW(scalar_type_named("float"), UsageError);
  EXPECT_THROW(parse_device("gpu"), UsageError);
  EXPECT_EQ(parse_device("cpu"), at::Device(at::kCPU));
  EXPECT_THROW(parse_device("cuda:127"), Error);  // no machine has so many
}

}  // namespace
}  // namespace cresco::tensor
