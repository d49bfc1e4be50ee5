#include "cresco/base/progress.h"

#include "cresco/base/strings.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <limits>

namespace cresco {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::int64_t available_bytes() {
  std::int64_t available = std::numeric_limits<std::int64_t>::max();
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    long long kilobytes = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %lld kB", &kilobytes) == 1)
      available = static_cast<std::int64_t>(kilobytes) * 1024;
  }
  // "max" where there is no limit, which is no number.
  std::int64_t limit = 0, used = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit &&
      std::ifstream("/sys/fs/cgroup/memory.current") >> used)
    available = std::min(available, std::max<std::int64_t>(0, limit - used));
  return available;
}

std::string utc_time() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

namespace {

class NoProgress final : public Progress {
 public:
  void begin(std::string_view, std::int64_t, std::string_view) override {}
  void update(std::int64_t, std::string_view) override {}
  void end() override {}
  void note(std::string_view) override {}
};

}  // namespace

Progress& no_progress() {
  static NoProgress none;
  return none;
}

TextProgress::TextProgress(std::FILE* out, bool quiet, double interval_seconds)
    : out_(out),
      quiet_(quiet),
      terminal_(::isatty(::fileno(out)) == 1),
      interval_(interval_seconds) {}

TextProgress::~TextProgress() { clear_line(); }

void TextProgress::begin(std::string_view stage, std::int64_t total, std::string_view unit) {
  stage_ = stage;
  unit_ = unit;
  total_ = total;
  first_done_ = -1;
  started_ = last_shown_ = now_seconds();
}

void TextProgress::update(std::int64_t done, std::string_view detail) {
  if (first_done_ < 0) first_done_ = done;  // a resumed stage begins past zero
  const double now = now_seconds();
  if (quiet_ || now - last_shown_ < (terminal_ ? 0.1 : interval_)) return;
  last_shown_ = now;
  const std::string text = line(done, detail);
  if (terminal_) {
    put("\r\x1b[2K" + text);
    line_open_ = true;
  } else {
    put(text + "\n");
  }
  std::fflush(out_);
}

// What cannot be shown (a closed pipe, a full disk) is no reason to stop the work.
void TextProgress::put(const std::string& text) { std::fputs(text.c_str(), out_); }

std::string TextProgress::line(std::int64_t done, std::string_view detail) const {
  std::string text = fmt::format("{}: {} {}", stage_, unit_, done);
  if (total_ > 0) text += fmt::format("/{}", total_);
  if (!detail.empty()) text += fmt::format(" | {}", detail);
  text += fmt::format(" | {}", human_bytes(static_cast<double>(resident_bytes())));
  if (total_ > 0 && done > first_done_) {
    const double per_unit = (now_seconds() - started_) / static_cast<double>(done - first_done_);
    text += fmt::format(" | eta {}", human_duration(per_unit * static_cast<double>(total_ - done)));
  }
  return text;
}

void TextProgress::end() { clear_line(); }

void TextProgress::note(std::string_view text) {
  clear_line();
  if (!quiet_) put(escape_for_terminal(text) + "\n");
  std::fflush(out_);
}

void TextProgress::clear_line() {
  if (line_open_) put("\r\x1b[2K");
  line_open_ = false;
  std::fflush(out_);
}

}  // namespace cresco
