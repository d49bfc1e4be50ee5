#include "cresco/trajectories/stack.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace cresco::trajectories {
namespace {

void write_stack(const Path& path, const std::vector<std::int64_t>& steps,
                 const at::Tensor& x_KVD) {
  StackWriter writer(path, {"model", "W_U", steps}, formats::DType::F32, x_KVD.size(1),
                     x_KVD.size(2), {});
  for (const std::int64_t step : writer.order()) {
    const auto k = std::find(steps.begin(), steps.end(), step) - steps.begin();
    writer.write(x_KVD[k]);
  }
  writer.commit();
}

TEST(Stack, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  const std::vector<std::int64_t> steps{0, 9, 10, 200};  // not in the order of their names
  const at::Tensor x_KVD = at::arange(4 * 5 * 3).to(at::kFloat).reshape({4, 5, 3});
  write_stack(folder / "s.safetensors", steps, x_KVD);
  const Stack stack(folder / "s.safetensors");
  EXPECT_EQ(stack.steps(), steps);
  EXPECT_EQ(stack.info().matrix, "W_U");
  for (std::int64_t k = 0; k < 4; ++k) EXPECT_TRUE(at::equal(stack.at(k), x_KVD[k]));
  EXPECT_EQ(stack.indices({200, 0}), (std::vector<std::int64_t>{3, 0}));
  EXPECT_THROW(stack.indices({11}), Error);
}

TEST(Stack, NamesTheRowThatIsNotFinite) {
  const TemporaryFolder folder;
  at::Tensor x_KVD = at::zeros({1, 4, 2});
  x_KVD[0][2][1] = std::numeric_limits<float>::quiet_NaN();
  write_stack(folder / "s", {7}, x_KVD);
  try {
    Stack(folder / "s").at(0);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("step 7: row 2"), std::string::npos) << e.what();
  }
}

TEST(Stack, RefusesOtherSafetensors) {
  const TemporaryFolder folder;
  formats::write_safetensors(folder / "t", {});
  EXPECT_THROW(Stack(folder / "t"), Error);
}

}  // namespace
}  // namespace cresco::trajectories
