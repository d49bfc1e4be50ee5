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

TEST(AllFinite, FindsOneNumberWhereverItStands) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    at::Tensor numbers = at::full({2500}, std::numeric_limits<float>::max() / 2, type);
    numbers[7] = -0.0;
    EXPECT_TRUE(all_finite(numbers));
    EXPECT_TRUE(all_finite(numbers.slice(0, 0, 0)));
    for (const std::int64_t at : {0, 1023, 1024, 2047, 2048, 2499})
      for (const float odd : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
        at::Tensor with = numbers.clone();
        with[at] = odd;
        EXPECT_FALSE(all_finite(with)) << at << ' ' << odd;
        EXPECT_FALSE(all_finite(with.view({2, 1250}).t()));
      }
  }
}

}  // namespace
}  // namespace cresco::tensor
