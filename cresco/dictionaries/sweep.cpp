#include "cresco/dictionaries/sweep.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/released.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

namespace cresco::dictionaries {
namespace {

constexpr std::int64_t kMostValues = 10000;

// "0..4" is 0, 1, 2, 3, 4.
std::vector<std::string> range_values(const std::string& text, std::size_t dots,
                                      const std::string& word) {
  const std::int64_t first = parse_int(text.substr(0, dots), word),
                     last = parse_int(text.substr(dots + 2), word);
  require_usage(first <= last && last - first < kMostValues,
                "--sweep {}: {}..{} is no range of up to {} whole numbers", word, first, last,
                kMostValues);
  std::vector<std::string> values;
  for (std::int64_t i = first; i <= last; ++i) values.push_back(std::to_string(i));
  return values;
}

std::vector<std::string> comma_values(const std::string& text) {
  std::vector<std::string> values;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return values;
}

// Two spellings of one number are one value.
std::string canonical(const std::string& value) {
  try {
    return fmt::format("{}", parse_double(value, ""));
  } catch (const Error&) {
    return value;
  }
}

// A training that takes part, with what it needs of memory.
struct Running {
  std::size_t member;
  CrosscoderTraining training;
  double bytes;
};

// Those that take the next step together; each alone without `fuse`.
std::vector<std::vector<std::size_t>> groups_of(const std::vector<Running>& running, bool fuse) {
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < running.size(); ++i) {
    if (running[i].training.finished()) continue;
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) {
      return fuse && running[g[0]].training.reads_with(running[i].training);
    });
    if (group == groups.end())
      groups.push_back({i});
    else
      group->push_back(i);
  }
  return groups;
}

// The joint steps of groups, made anew when a group has other members than before.
class JointGroups {
 public:
  JointGroups(const std::vector<SweepMember>& members, Progress& progress)
      : members_(members), progress_(progress) {}

  JointSteps& of(std::vector<Running>& running, const std::vector<std::size_t>& group) {
    std::vector<CrosscoderStep*> steps;
    for (const std::size_t i : group) steps.push_back(&running[i].training.step());
    auto found = known_.find(steps);
    if (found == known_.end()) {
      // What shares a step with this group is no group any more.
      std::erase_if(known_, [&](const auto& entry) {
        return std::find_first_of(entry.first.begin(), entry.first.end(), steps.begin(),
                                  steps.end()) != entry.first.end();
      });
      found = known_.emplace(steps, join_steps(steps)).first;
      TORCH_INTERNAL_ASSERT(found->second);  // can_fuse() said so
      std::vector<std::string> names;
      for (const std::size_t i : group) names.push_back(members_[running[i].member].name);
      progress_.note(fmt::format("one product for the encoders of {}", join(names, ", ")));
    }
    return *found->second;
  }
  void forget() { known_.clear(); }

 private:
  const std::vector<SweepMember>& members_;
  Progress& progress_;
  std::map<std::vector<CrosscoderStep*>, std::unique_ptr<JointSteps>> known_;
};

// Those that no other can share its batches with, whatever is in memory together.
std::string alone_in(const std::vector<SweepMember>& members) {
  std::vector<std::string> names;
  for (const SweepMember& m : members)
    if (std::none_of(members.begin(), members.end(), [&](const SweepMember& other) {
          return &other != &m && other.data == m.data && can_fuse(other.run, m.run);
        }))
      names.push_back(m.name);
  return join(names, ", ");
}

double bytes_of(const SweepMember& member) {
  const TrainingPlan plan = plan_training(member.run, member.data->shape());
  return plan.memory_bytes - plan.shared_bytes;
}

}  // namespace

std::vector<SweepAxis> parse_sweep(const std::vector<std::string>& words) {
  std::vector<SweepAxis> axes;
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    require_usage(equals != std::string::npos && equals > 0 && equals + 1 < word.size(),
                  "--sweep {}: expected SETTING=VALUE,VALUE or SETTING=FIRST..LAST", word);
    SweepAxis axis{.key = word.substr(0, equals)};
    std::replace(axis.key.begin(), axis.key.end(), '-', '_');
    const std::string text = word.substr(equals + 1);
    const std::size_t dots = text.find("..");
    axis.values = dots == std::string::npos
                      ? comma_values(text)
                      : as_usage([&] { return range_values(text, dots, word); });
    std::set<std::string> seen;
    for (const std::string& value : axis.values) {
      require_usage(!value.empty(), "--sweep {}: a value is empty", word);
      require_usage(seen.insert(canonical(value)).second, "--sweep {}: the value {} comes twice",
                    word, value);
    }
    for (const SweepAxis& other : axes)
      require_usage(other.key != axis.key, "--sweep: {} comes twice", axis.key);
    axes.push_back(std::move(axis));
  }
  std::int64_t count = 1;
  for (const SweepAxis& axis : axes) count *= static_cast<std::int64_t>(axis.values.size());
  require_usage(count <= kMostValues, "--sweep: {} combinations, expected up to {}", count,
                kMostValues);
  return axes;
}

std::vector<SweepValues> combinations(const std::vector<SweepAxis>& axes) {
  std::vector<SweepValues> all{{}};
  for (const SweepAxis& axis : axes) {
    std::vector<SweepValues> longer;
    for (const SweepValues& values : all)
      for (const std::string& value : axis.values) {
        longer.push_back(values);
        longer.back().emplace_back(axis.key, value);
      }
    all = std::move(longer);
  }
  return all;
}

std::string member_name(const SweepValues& values) {
  std::string name;
  for (const auto& [key, value] : values)
    name += fmt::format("{}{}_{}", name.empty() ? "" : "_", key, value);
  std::replace(name.begin(), name.end(), '/', '-');
  return name;
}

artifacts::Table train_sweep(const std::vector<SweepMember>& members, const Path& folder,
                             double memory_bytes, bool fuse, Progress& progress,
                             const std::function<void(const TrainingOutcome&)>& finished) {
  std::int64_t total = 0, done = 0;
  std::deque<std::size_t> waiting;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const SweepMember& m = members[i];
    if (!m.run.overwrite && is_complete(m.run, *m.data, folder / m.name)) {
      if (finished) finished(outcome_of(m.run, *m.data, folder / m.name));
      continue;
    }
    waiting.push_back(i);
    total += steps_to_take(m.run, *m.data);
  }
  if (const std::string alone = fuse ? alone_in(members) : ""; !alone.empty())
    progress.note("--fuse: no other training reads the batches of " + alone);
  progress.begin("train", total, "step");
  std::vector<Running> running;
  JointGroups joint(members, progress);
  double used = 0;
  while (!waiting.empty() || !running.empty()) {
    // As many as memory holds; at least one.
    while (!waiting.empty()) {
      const SweepMember& m = members[waiting.front()];
      const double bytes = bytes_of(m);
      if (!running.empty() && used + bytes > memory_bytes) break;
      running.push_back(
          {waiting.front(), CrosscoderTraining(m.run, *m.data, folder / m.name, progress), bytes});
      done += running.back().training.next_step();
      used += bytes;
      waiting.pop_front();
      joint.forget();
    }
    if (members[running[0].member].run.stop_requested()) {
      progress.end();
      for (Running& r : running) r.training.save();
      throw Interrupted(fmt::format("stopped after {} of {} steps; this goes on: {}", done, total,
                                    members[0].run.resume_command));
    }
    const auto show = [&](std::size_t i, const LossTerms& terms) {
      progress.update(++done, fmt::format("{}: loss {:.4g} | l0 {:.1f}",
                                          members[running[i].member].name, terms.loss, terms.l0));
    };
    for (const std::vector<std::size_t>& group : groups_of(running, fuse)) {
      if (group.size() == 1) {
        show(group[0], running[group[0]].training.advance());
        continue;
      }
      std::vector<CrosscoderTraining*> trainings;
      for (const std::size_t i : group) trainings.push_back(&running[i].training);
      const auto terms = CrosscoderTraining::advance_together(trainings, joint.of(running, group));
      for (std::size_t n = 0; n < group.size(); ++n) show(group[n], terms[n]);
    }
    for (auto r = running.begin(); r != running.end();) {
      if (!r->training.finished()) {
        ++r;
        continue;
      }
      const TrainingOutcome outcome = r->training.finish();
      if (finished) finished(outcome);
      used -= r->bytes;
      r = running.erase(r);
      joint.forget();  // another step may come to stand in its place
    }
  }
  progress.end();

  std::vector<std::string> columns{"member"};
  for (const auto& [key, value] : members[0].values) columns.push_back(key);
  for (const char* column : {"explained_variance_pooled", "l0", "dead_rate_1e-6",
                             "reconstruction_mse", "final_l1_coefficient", "folder"})
    columns.emplace_back(column);
  artifacts::Table table(columns);
  for (const SweepMember& m : members) {
    const auto [quality, provenance] = read_record(folder / m.name);
    std::vector<std::string> row{m.name};
    for (const auto& [key, value] : m.values) row.push_back(value);
    for (const char* key : {"explained_variance", "mean_l0", "dead_rate", "reconstruction_mse"})
      row.push_back(artifacts::Table::cell(quality.value(key, std::nan(""))));
    row.push_back(artifacts::Table::cell(provenance.value("final_l1_coefficient", std::nan(""))));
    row.push_back(m.name);
    table.add_row(row);
  }
  return table;
}

}  // namespace cresco::dictionaries
