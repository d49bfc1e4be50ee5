#include "cresco/pretrain/recipe.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

namespace cresco::pretrain {
namespace {

Recipe good() {
  Recipe r;
  r.budget.steps = 10;
  return r;
}

std::string error_of(const Recipe& r) {
  try {
    check(r);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

TEST(Recipe, NamesTheFieldThatIsWrong) {
  EXPECT_EQ(error_of(good()), "");
  const auto wrong = [](const std::string& assignment) {
    Recipe r = good();
    set_field([&](FieldVisitor& v) { r.fields(v); }, assignment);
    return error_of(r);
  };
  EXPECT_NE(wrong("model.num_attention_heads=7").find("hidden_size 512"), std::string::npos);
  EXPECT_NE(wrong("batch.micro_sequences=5").find("batch.micro_sequences 5"), std::string::npos);
  EXPECT_NE(wrong("budget.tokens=5").find("budget"), std::string::npos);
  EXPECT_NE(wrong("data.sequence_length=4096").find("max_position_embeddings"), std::string::npos);
  EXPECT_NE(wrong("schedule.name=cosin").find("did you mean 'cosine'"), std::string::npos);
  EXPECT_NE(wrong("optimizer.betas=[0.9]"), "");
  EXPECT_NE(wrong("snapshots.at=often"), "");
  EXPECT_NE(wrong("precision=fp8"), "");
}

TEST(Recipe, CountsStepsAndWork) {
  Recipe r;
  r.budget.tokens = 10'000'000'000;
  r.batch.sequences = 1024;
  EXPECT_EQ(r.total_steps(), 4769);
}

}  // namespace
}  // namespace cresco::pretrain
