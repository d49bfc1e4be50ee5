#include "cresco/dictionaries/training_folder.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <charconv>

namespace cresco::dictionaries {
namespace {

bool holds_anything(const Path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename() != ".lock") return true;
  return false;
}

void require_same_settings(const Path& folder, const Json& settings) {
  const std::string differs = first_difference(read_json_file(folder / "settings.json"), settings);
  require(differs.empty(), "{}: holds a training with other settings: {}; --overwrite replaces it",
          folder.string(), differs);
}

}  // namespace

std::vector<std::int64_t> StateFolders::steps() const {
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

std::string StateFolders::newest_name() const {
  const auto all = steps();
  return all.empty() ? "none was written" : path(all.back()).string();
}

void StateFolders::write(std::int64_t step, const std::vector<tensor::NamedTensor>& tensors,
                         const Json& numbers) const {
  std::filesystem::create_directories(folder_);
  AtomicFolder folder(path(step));
  tensor::write_tensors(folder.folder() / "state.safetensors", tensors);
  Json state{{"step", step}};
  state.update(numbers);
  write_json_file(folder.folder() / "state.json", state);
  folder.commit(/*replace=*/std::filesystem::exists(path(step)));
  keep_last(2);
}

std::int64_t StateFolders::read_newest(const Read& read, Progress& progress,
                                       dist::Ranks& ranks) const {
  remove_temporaries(folder_);
  auto all = steps();
  for (std::string error;;) {
    const std::int64_t newest = ranks.least_of(all.empty() ? 0 : all.back());
    while (!all.empty() && all.back() > newest) all.pop_back();
    require(newest > 0 || error.empty(), "{}", error);
    if (newest == 0) return 0;
    std::string failed;
    try {
      const Path folder = path(newest);
      const Json numbers = read_json_file(folder / "state.json");
      const std::int64_t step = get_int(numbers, "step", folder.string());
      require(step == newest, "{}: its state.json names step {}", folder.string(), step);
      read(formats::SafetensorsFile(folder / "state.safetensors"), numbers);
    } catch (const Error& e) {
      failed = e.what();
    }
    if (ranks.largest_of(failed.empty() ? 0 : 1) == 0) return newest;
    if (!failed.empty()) error = failed;
    if (!all.empty() && all.back() == newest) all.pop_back();
    if (!failed.empty() && !all.empty())
      progress.note(fmt::format("{}; going on from the state before it", failed));
  }
}

void StateFolders::keep_last(std::size_t count) const {
  const auto all = steps();
  for (std::size_t i = 0; i + count < all.size(); ++i) remove_folder(path(all[i]));
  if (count == 0) remove_folder(folder_);
}

void copy_stored(const formats::SafetensorsFile& file,
                 const std::vector<tensor::NamedTensor>& tensors) {
  const torch::autograd::AutoGradMode no_grad(false);
  for (const auto& [name, t] : tensors) {
    const at::Tensor stored = tensor::to_tensor(file.tensor(name));
    require(stored.sizes() == t.sizes(), "{}: '{}' has shape {}, expected {}", file.path().string(),
            name, formats::shape_text(stored.sizes().vec()), formats::shape_text(t.sizes().vec()));
    t.copy_(stored);
  }
}

void open_training_folder(const Path& folder, const Json& settings, const FolderRules& rules) {
  const StateFolders states(folder);
  remove_temporaries(folder);
  require(rules.resume != "must" || !states.steps().empty(), "{}: has no state to resume from",
          folder.string());
  if (rules.overwrite) make_output_folder(folder, /*overwrite=*/true, rules.inputs);
  if (!holds_anything(folder)) {
    write_json_file(folder / "settings.json", settings);
    return;
  }
  require(rules.resume != "never" && std::filesystem::exists(folder / "settings.json"),
          "{}: exists already; --overwrite replaces it", folder.string());
  require_same_settings(folder, settings);
  const Path complete = folder / "COMPLETE";
  if (std::filesystem::exists(complete)) {
    const auto steps = states.steps();
    require(!steps.empty() && steps.back() < rules.last_step,
            "{}: is complete already; --overwrite makes it anew", folder.string());
    std::filesystem::remove(complete);
  }
}

std::optional<std::int64_t> completed_steps(const Path& folder, const Json& settings) {
  const Path complete = folder / "COMPLETE";
  if (!std::filesystem::exists(complete)) return std::nullopt;
  require_same_settings(folder, settings);
  const std::string text = read_file(complete, /*limit_bytes=*/64);
  return parse_int(text.substr(0, text.find('\n')), complete.string());
}

void mark_complete(const Path& folder, std::int64_t num_steps) {
  write_file(folder / "COMPLETE", fmt::format("{}\n", num_steps));
}

}  // namespace cresco::dictionaries
