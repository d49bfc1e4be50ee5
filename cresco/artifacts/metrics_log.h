// metrics.jsonl: one JSON object a line, each with its "step", in order of steps.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"

#include <nlohmann/json.hpp>

#include <vector>

namespace cresco::artifacts {

class MetricsLog {
 public:
  // Lines of steps past `last_step` are cut, as is a line that a killed writer left unfinished: a
  // resumed run writes them again. -1 starts an empty log.
  MetricsLog(const Path& path, std::int64_t last_step);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void write(const Json& line);  // reaches the file before this returns
  void flush_to_disk();

 private:
  Path path_;
  int descriptor_ = -1;
};

// All whole lines. Error with file and line for one that is not a JSON object with a "step".
std::vector<Json> read_metrics(const Path& path);

}  // namespace cresco::artifacts
