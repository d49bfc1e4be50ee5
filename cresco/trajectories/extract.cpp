#include "cresco/trajectories/extract.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/matrix_reader.h"
#include "cresco/trajectories/stack.h"
#include "cresco/trajectories/steps.h"

#include <ATen/ATen.h>

#include <deque>

namespace cresco::trajectories {
namespace {

bool is_pattern(const std::string& matrix) {
  return matrix.find_first_of("*?[") != std::string::npos;
}

// A matrix that is to be extracted, with what the first snapshot says of it.
struct Job {
  ExtractedMatrix made;
  formats::DType stored{}, written{};
  std::string note;
};

struct Plan {
  std::vector<std::int64_t> steps;
  std::vector<Job> jobs;
  // What the parts of a stopped extraction must have been made from: files, their sizes and times.
  Json source;
};

formats::DType written_type(const ExtractConfig& config, formats::DType stored) {
  if (config.dtype.empty()) return stored;
  return tensor::dtype_of(at::empty({0}, tensor::scalar_type_named(config.dtype)));
}

Path beside(const Path& out, const std::string& suffix) {
  Path path = out;
  const std::string extension = path.extension().string();
  path.replace_extension();
  return path.string() + suffix + extension;
}

// A tensor's name may hold anything; a file's name of ours does not.
std::string file_name(const std::string& matrix) {
  std::string name = matrix;
  for (char& c : name) {
    const bool is_plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                          (c >= 'a' && c <= 'z') || c == '.' || c == '-' || c == '_';
    if (!is_plain) c = '_';
  }
  require(name.size() <= 200, "'{}...' is too long for the name of a file",
          escape_for_terminal(matrix.substr(0, 60)));
  return name;
}

std::vector<Job> jobs_at(const Snapshot& snapshot, const ExtractConfig& config, const Path& out) {
  std::vector<std::pair<std::string, Path>> wanted;
  if (is_pattern(config.matrix)) {
    require_usage(!config.fold_ln, "--fold-ln is of W_U alone, not of a pattern");
    for (const std::string& name : matching_matrices(snapshot, config.matrix)) {
      const Path file = out / (file_name(name) + ".safetensors");
      for (const auto& [other, taken] : wanted)
        require(taken != file, "{}: '{}' and '{}' would both be written to {}: choose one",
                snapshot.where(), escape_for_terminal(other), escape_for_terminal(name),
                file.string());
      wanted.emplace_back(name, file);
    }
  } else {
    wanted.emplace_back(config.matrix, out);
    if (config.fold_ln) {
      require_usage(config.matrix == "W_U", "--fold-ln is of W_U alone, not of '{}'",
                    config.matrix);
      // OLMo's norms have no bias to fold.
      for (const families::MatrixPart& part : snapshot.matrices())
        if (part.name == "ln_final.b") wanted.emplace_back("b_U", beside(out, ".bias"));
    }
  }
  std::vector<Job> jobs;
  for (const auto& [name, file] : wanted) {
    const MatrixReader reader(snapshot, name, config.fold_ln);
    Job job{.made = {.matrix = name, .out = file, .shape = {reader.rows(), reader.width()}}};
    job.stored = reader.dtype();
    job.written = written_type(config, reader.dtype());
    job.note = reader.note();
    jobs.push_back(std::move(job));
  }
  return jobs;
}

// Types may differ from step to step when one to write is given.
void require_same(const Job& job, const MatrixReader& reader, const Snapshot& snapshot,
                  const ExtractConfig& config, std::int64_t first_step) {
  const std::vector<std::int64_t> shape{reader.rows(), reader.width()};
  require(shape == job.made.shape && (reader.dtype() == job.stored || !config.dtype.empty()),
          "{}: '{}' is {} of {}, at step {} it was {} of {}", snapshot.where(), job.made.matrix,
          formats::shape_text(shape), formats::name_of(reader.dtype()), first_step,
          formats::shape_text(job.made.shape), formats::name_of(job.stored));
}

// Every header is checked before a byte is written.
Plan make_plan(const Trajectory& trajectory, const ExtractConfig& config, const Path& out) {
  Plan plan{.steps = choose_steps(config.steps, trajectory.steps(), trajectory.path().string())};
  plan.source = Json::array();
  for (const std::int64_t step : plan.steps) {
    const Snapshot snapshot = trajectory.open(step);
    if (plan.jobs.empty()) plan.jobs = jobs_at(snapshot, config, out);
    for (const Job& job : plan.jobs)
      require_same(job, MatrixReader(snapshot, job.made.matrix, config.fold_ln), snapshot, config,
                   plan.steps[0]);
    plan.source.push_back(snapshot.identity());
  }
  return plan;
}

Extracted result_of(Plan plan) {
  Extracted result{.steps = std::move(plan.steps)};
  for (Job& job : plan.jobs) result.matrices.push_back(std::move(job.made));
  return result;
}

}  // namespace

Extracted plan_extract(const Trajectory& trajectory, const ExtractConfig& config, const Path& out) {
  return result_of(make_plan(trajectory, config, out));
}

Extracted extract(const Trajectory& trajectory, const ExtractConfig& config, const Path& out,
                  Progress& progress, const std::string& resume_command) {
  Plan plan = make_plan(trajectory, config, out);
  if (const Path folder = plan.jobs[0].made.out.parent_path(); !folder.empty())
    std::filesystem::create_directories(folder);
  const OutputLock lock(plan.jobs[0].made.out);
  std::deque<StackWriter> writers;
  for (const Job& job : plan.jobs)
    writers.emplace_back(job.made.out,
                         StackInfo{.model = trajectory.model(),
                                   .matrix = job.made.matrix,
                                   .steps = plan.steps,
                                   .note = job.note},
                         job.written, job.made.shape[0], job.made.shape[1], plan.source);
  progress.begin("extract", static_cast<std::int64_t>(plan.steps.size()), "snapshot");
  for (std::size_t k = 0; k < plan.steps.size(); ++k) {
    const std::int64_t step = plan.steps[k];
    if (interrupted()) {
      progress.end();
      throw Interrupted(
          fmt::format("interrupted before step {}; go on with: {}", step, resume_command));
    }
    std::optional<Snapshot> snapshot;
    for (std::size_t i = 0; i < plan.jobs.size(); ++i) {
      if (writers[i].has(step)) continue;
      if (!snapshot) snapshot = trajectory.open(step);
      const Job& job = plan.jobs[i];
      const MatrixReader reader(*snapshot, job.made.matrix, config.fold_ln);
      require_same(job, reader, *snapshot, config, plan.steps[0]);
      writers[i].begin(step);
      writers[i].end(reader.read(job.written, [&](Bytes piece) { writers[i].write(piece); }));
    }
    if (snapshot) snapshot->require_unchanged();
    progress.update(static_cast<std::int64_t>(k + 1), fmt::format("step {}", step));
  }
  progress.end();
  for (std::size_t i = 0; i < plan.jobs.size(); ++i) {
    for (const std::int64_t step : plan.steps)
      plan.jobs[i].made.sha256.push_back(writers[i].source_hashes().at(step));
    writers[i].commit();
  }
  return result_of(std::move(plan));
}

}  // namespace cresco::trajectories
