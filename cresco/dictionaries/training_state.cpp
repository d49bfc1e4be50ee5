#include "cresco/dictionaries/training_state.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>

namespace cresco::dictionaries {
namespace {

void read_into(const Path& folder, std::int64_t step, CrosscoderStep& state) {
  const Json info = read_json_file(folder / "state.json");
  require(get_int(info, "step", folder.string()) == step, "{}: its state.json names step {}",
          folder.string(), get_int(info, "step", folder.string()));
  state.load_state(formats::SafetensorsFile(folder / "state.safetensors"));
}

}  // namespace

std::vector<std::int64_t> TrainingStates::steps() const {
  std::vector<std::int64_t> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    std::int64_t step = 0;
    if (!name.starts_with("step")) continue;
    const auto [end, code] = std::from_chars(name.data() + 4, name.data() + name.size(), step);
    if (code == std::errc() && end == name.data() + name.size()) found.push_back(step);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string TrainingStates::newest_name() const {
  const auto all = steps();
  return all.empty() ? "none was written" : path(all.back()).string();
}

void TrainingStates::write(std::int64_t step, const CrosscoderStep& state) const {
  const std::string bad = state.first_not_finite();
  require(
      bad.empty(),
      "after {} steps {} holds numbers that are not finite: is lr too high? Last good state: {}",
      step, bad, newest_name());
  std::filesystem::create_directories(folder_);
  AtomicFolder folder(path(step));
  tensor::write_tensors(folder.folder() / "state.safetensors", state.state());
  write_json_file(folder.folder() / "state.json", {{"step", step}});
  folder.commit(/*replace=*/std::filesystem::exists(path(step)));
  keep_last(2);
}

void TrainingStates::keep_last(std::size_t count) const {
  const auto all = steps();
  for (std::size_t i = 0; i + count < all.size(); ++i) remove_folder(path(all[i]));
  if (count == 0) remove_folder(folder_);
}

std::int64_t TrainingStates::read_newest(CrosscoderStep& state, Progress& progress) const {
  remove_temporaries(folder_);
  auto all = steps();
  for (; !all.empty(); all.pop_back()) {
    try {
      read_into(path(all.back()), all.back(), state);
      return all.back();
    } catch (const Error& error) {
      if (all.size() == 1) throw;
      progress.note(fmt::format("{}; going on from the state before it", error.what()));
    }
  }
  return 0;
}

}  // namespace cresco::dictionaries
