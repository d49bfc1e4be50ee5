#include "cresco/trajectories/stack.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace cresco::trajectories {
namespace {

void write_stack(const Path& path, const std::vector<std::int64_t>& steps,
                 const at::Tensor& x_KVD) {
  trajectories::write_stack(path, {"model", "W_U", steps, ""}, x_KVD.unbind(0));
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
  EXPECT_TRUE(at::equal(stack.rows(2, 1, 3), x_KVD[2].slice(0, 1, 4)));
  EXPECT_EQ(stack.rows(2, 5, 0).sizes(), (at::IntArrayRef{0, 3}));
  EXPECT_THROW(stack.rows(2, 4, 2), Error);
  EXPECT_EQ(stack.indices({200, 0}), (std::vector<std::int64_t>{3, 0}));
  EXPECT_THROW(stack.indices({11}), Error);
}

// A writer that goes away after some steps is as one that was killed: the next one goes on, and the
// file comes out the same. What was made from something else is not gone on with.
TEST(StackWriter, GoesOnWhereAKilledOneStopped) {
  const TemporaryFolder folder;
  const std::vector<std::int64_t> steps{0, 9, 10};
  const at::Tensor x_KVD = at::arange(3 * 5 * 3).to(at::kFloat).reshape({3, 5, 3});
  write_stack(folder / "whole", steps, x_KVD);
  const auto writer = [&](const char* source) {
    return StackWriter(folder / "s", {"model", "W_U", steps, ""}, formats::DType::F32, 5, 3,
                       source);
  };
  {
    StackWriter killed = writer("a");
    killed.write(10, x_KVD[2]);
    killed.begin(0);
    killed.write(tensor::view_of("", x_KVD[0].contiguous()).bytes.first(8));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "s"));
  {
    StackWriter next = writer("a");
    EXPECT_TRUE(next.has(10));
    EXPECT_FALSE(next.has(0));
    EXPECT_THROW(next.commit(), Error);
    next.write(0, x_KVD[0]);
  }
  EXPECT_FALSE(writer("b").has(10));
  {
    StackWriter last = writer("a");  // "b" began anew
    EXPECT_FALSE(last.has(10));
    for (std::size_t k = 0; k < 3; ++k) last.write(steps[k], x_KVD[static_cast<std::int64_t>(k)]);
    last.begin(0);
    EXPECT_THROW(last.write(tensor::view_of("", x_KVD).bytes), Error);  // too many
    EXPECT_THROW(last.end("none"), Error);                              // too few
    last.commit();
  }
  EXPECT_EQ(read_file(folder / "s"), read_file(folder / "whole"));
  EXPECT_FALSE(std::filesystem::exists(folder / "s.part"));
  EXPECT_FALSE(std::filesystem::exists(folder / "s.part.json"));
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
  formats::write_safetensors(folder / "u", {},
                             {{"format", kStackFormat},
                              {"version", "1"},
                              {"model", "m"},
                              {"matrix", "W_U"},
                              {"steps", "[0, 1]"}});
  try {
    Stack(folder / "u");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("metadata 'steps': '[0' is not"), std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace cresco::trajectories
