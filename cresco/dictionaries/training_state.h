// What a training resumes from: folders state/step<N>/ with the state of its step after N updates.
// Row orders, schedules and random numbers are functions of the step and need no saving.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/dictionaries/crosscoder_step.h"

#include <string>
#include <vector>

namespace cresco::dictionaries {

class TrainingStates {
 public:
  explicit TrainingStates(const Path& run_folder) : folder_(run_folder / "state") {}

  std::vector<std::int64_t> steps() const;  // ascending
  Path path(std::int64_t step) const { return folder_ / ("step" + std::to_string(step)); }

  // Keeps the last two. Error with the tensor's name when a number is not finite.
  void write(std::int64_t step, const CrosscoderStep& state) const;
  // Loads the newest readable state and returns its step; 0 and no change when there is none.
  std::int64_t read_newest(CrosscoderStep& state, Progress& progress) const;
  void keep_last(std::size_t count) const;
  std::string newest_name() const;  // for messages

 private:
  Path folder_;
};

}  // namespace cresco::dictionaries
