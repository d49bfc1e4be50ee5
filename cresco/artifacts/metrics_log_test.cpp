#include "cresco/artifacts/metrics_log.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

#include <fstream>

namespace cresco::artifacts {
namespace {

TEST(MetricsLog, CutsWhatAResumedRunWritesAgain) {
  const TemporaryFolder folder;
  const Path path = folder / "metrics.jsonl";
  {
    MetricsLog log(path, -1);
    for (int step = 1; step <= 5; ++step) log.write({{"step", step}, {"loss", 0.1 * step}});
  }
  std::ofstream(path, std::ios::app) << "{\"step\": 6, \"lo";  // killed here
  {
    MetricsLog log(path, 3);
    log.write({{"step", 4}, {"loss", 9}});
  }
  const auto lines = read_metrics(path);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[2]["loss"].get<double>(), 0.1 * 3);
  EXPECT_EQ(lines[3]["loss"], 9);
}

TEST(MetricsLog, RefusesForeignLines) {
  const TemporaryFolder folder;
  write_file(folder / "m", "[1]\n");
  EXPECT_THROW(read_metrics(folder / "m"), Error);
}

}  // namespace
}  // namespace cresco::artifacts
