#include "cresco/artifacts/metrics_log.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace cresco::artifacts {

MetricsLog::MetricsLog(const Path& path, std::int64_t last_step) : path_(path) {
  std::string kept;
  if (last_step >= 0 && std::filesystem::exists(path))
    for (const Json& line : read_metrics(path))
      if (line["step"].get<std::int64_t>() <= last_step) kept += to_line(line) + "\n";
  write_file(path, kept);
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  require(descriptor_ >= 0, "{}: cannot be written: {}", path.string(), std::strerror(errno));
}

MetricsLog::~MetricsLog() { ::close(descriptor_); }

void MetricsLog::write(const Json& line) { write_all(descriptor_, to_line(line) + "\n", path_); }

void MetricsLog::flush_to_disk() {
  require(::fdatasync(descriptor_) == 0, "{}: cannot be flushed: {}", path_.string(),
          std::strerror(errno));
}

std::vector<Json> read_metrics(const Path& path) {
  const std::string text = read_file(path);
  std::vector<Json> lines;
  std::string_view rest = text;
  for (std::size_t number = 1;; ++number) {
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos) return lines;  // what follows was never finished
    const std::string where = fmt::format("{}: line {}", path.string(), number);
    lines.push_back(parse_json(rest.substr(0, end), where));
    get_int(lines.back(), "step", where);
    rest.remove_prefix(end + 1);
  }
}

}  // namespace cresco::artifacts
