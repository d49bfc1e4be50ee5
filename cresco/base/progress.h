// How the library says how far it is. It never prints: the program supplies an observer.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace cresco {

class Progress {
 public:
  virtual ~Progress() = default;
  // A stage of `total` units begins ("pretrain", 10000, "step"); total 0 when it is not known.
  virtual void begin(std::string_view stage, std::int64_t total, std::string_view unit) = 0;
  // `detail` is shown between the count and the time left: "loss 3.41 | 498k tok/s".
  virtual void update(std::int64_t done, std::string_view detail) = 0;
  virtual void end() = 0;
  // A line for people: a warning, or what was written where.
  virtual void note(std::string_view line) = 0;
};

// Says nothing: for tests and for callers that do not care.
Progress& no_progress();

// On a terminal one line that is redrawn, otherwise a plain line every `interval_seconds`:
//   step 1200/10000 | loss 3.41 | 498k tok/s | 11.2 GiB | eta 00:06:12
class TextProgress final : public Progress {
 public:
  TextProgress(std::FILE* out, bool quiet, double interval_seconds = 10);
  ~TextProgress() override;
  void begin(std::string_view stage, std::int64_t total, std::string_view unit) override;
  void update(std::int64_t done, std::string_view detail) override;
  void end() override;
  void note(std::string_view line) override;

 private:
  std::string line(std::int64_t done, std::string_view detail) const;
  void clear_line();
  void put(const std::string& text);

  std::FILE* out_;
  bool quiet_, terminal_;
  double interval_;
  std::string stage_, unit_;
  std::int64_t total_ = 0, first_done_ = -1;
  double started_ = 0, last_shown_ = 0;
  bool line_open_ = false;
};

double now_seconds();           // a clock that only goes forward
std::int64_t resident_bytes();  // this process's memory, now
// What this process may still take: the machine's, or its control group's where that is less.
std::int64_t available_bytes();
std::string utc_time();  // 2026-11-22T20:29:00Z

}  // namespace cresco
