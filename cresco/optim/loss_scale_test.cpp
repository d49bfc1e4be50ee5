#include "cresco/optim/loss_scale.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <vector>

namespace cresco::optim {
namespace {

// Which steps of a run overflow: rarely, in bursts, or for a long time.
std::vector<bool> overflows(int seed, int count) {
  std::vector<bool> out;
  std::uint32_t x = 12345u + static_cast<std::uint32_t>(seed);
  for (int i = 0; i < count; ++i) {
    x = x * 1664525u + 1013904223u;
    const bool in_burst = (i / 40) % 3 == seed % 3;
    out.push_back((x >> 16) % 100 < (in_burst ? 30u : 2u));
  }
  return out;
}

// As PyTorch documents GradScaler.update, with a least scale.
TEST(LossScale, IsGradScalers) {
  const LossScaleConfig config{.initial = 1024, .window = 7, .min = 4};
  for (int seed = 0; seed < 5; ++seed) {
    LossScale scale(config);
    double expected = 1024;
    int growth_tracker = 0, skipped = 0;
    for (const bool overflow : overflows(seed, 500)) {
      scale.update(overflow);
      if (overflow) {
        expected = std::max(expected * 0.5, 4.0);
        growth_tracker = 0;
        ++skipped;
      } else if (++growth_tracker == 7) {
        expected *= 2;
        growth_tracker = 0;
      }
      ASSERT_EQ(scale.scale(), expected);
    }
    EXPECT_EQ(scale.num_overflows(), skipped);
    EXPECT_EQ(scale.schedule_step(500), 500);
  }
}

// DynamicLossScaler's bookkeeping, in iterations: the scale doubles on a good one that is a
// multiple of `window` iterations after the last overflow (at first: after iteration -1).
TEST(LossScale, IsDeepSpeeds) {
  const LossScaleConfig config{.initial = 4096,
                               .window = 9,
                               .hysteresis = 2,
                               .min = 1,
                               .schedule_advances_on_overflow = false};
  for (int seed = 0; seed < 5; ++seed) {
    LossScale scale(config);
    double expected = 4096;
    int hysteresis = 2, last_overflow = -1, iteration = 0, skipped = 0;
    for (const bool overflow : overflows(seed, 500)) {
      scale.update(overflow);
      if (overflow) {
        if (hysteresis == 1)
          expected = std::max(expected / 2, 1.0);
        else
          --hysteresis;
        last_overflow = iteration;
        ++skipped;
      } else {
        if ((iteration - last_overflow) % 9 == 0) {
          hysteresis = 2;
          expected *= 2;
        }
      }
      ++iteration;
      ASSERT_EQ(scale.scale(), expected) << "iteration " << iteration;
    }
    EXPECT_EQ(scale.schedule_step(500), 500 - skipped);
  }
}

TEST(LossScale, CollapsesAtTheLeastScaleOnly) {
  LossScale scale({.initial = 16, .window = 100, .hysteresis = 3, .min = 4});
  const auto overflow = [&](std::int64_t times) {
    for (std::int64_t i = 0; i < times; ++i) scale.update(true);
  };
  overflow(2);
  EXPECT_EQ(scale.scale(), 16);
  overflow(2);
  EXPECT_EQ(scale.scale(), 4);
  overflow(LossScale::kCollapse - 1);
  EXPECT_FALSE(scale.has_collapsed());
  scale.update(false);
  overflow(LossScale::kCollapse - 1);
  EXPECT_FALSE(scale.has_collapsed());
  overflow(1);
  EXPECT_TRUE(scale.has_collapsed());
  const std::string text = scale.collapse_text(77);
  for (const char* part : {"step 77", "loss_scale.min 4", "20 steps in a row", "(43 steps"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(LossScale, ResumesAnywhere) {
  for (const std::int64_t hysteresis : {1, 2}) {
    const LossScaleConfig config{.initial = 64, .window = 5, .hysteresis = hysteresis};
    const std::vector<bool> run = overflows(1, 200);
    for (std::size_t stop = 0; stop < run.size(); stop += 3) {
      LossScale whole(config), resumed(config);
      for (std::size_t i = 0; i < stop; ++i) whole.update(run[i]);
      resumed.load(parse_json(to_line(whole.state()), "state"), "state");
      for (std::size_t i = stop; i < run.size(); ++i) {
        whole.update(run[i]);
        resumed.update(run[i]);
        ASSERT_EQ(resumed.scale(), whole.scale());
      }
      EXPECT_EQ(to_line(resumed.state()), to_line(whole.state()));
    }
  }
  LossScale scale{LossScaleConfig{}};
  Json bad = scale.state();
  bad["scale"] = -1;
  EXPECT_THROW(scale.load(bad, "state.json"), Error);
  bad = scale.state();
  bad.erase("good_steps");
  EXPECT_THROW(scale.load(bad, "state.json"), Error);
  EXPECT_EQ(scale.scale(), 65536);
}

TEST(LossScale, NamesTheWrongField) {
  const auto message = [](const LossScaleConfig& config) -> std::string {
    try {
      check(config);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message({}), "");
  EXPECT_NE(message({.initial = 0}).find("loss_scale.initial"), std::string::npos);
  EXPECT_NE(message({.initial = 2, .min = 4}).find("loss_scale.min"), std::string::npos);
  EXPECT_NE(message({.window = 0}).find("loss_scale.window"), std::string::npos);
  EXPECT_NE(message({.hysteresis = 0}).find("loss_scale.hysteresis"), std::string::npos);
}

}  // namespace
}  // namespace cresco::optim
