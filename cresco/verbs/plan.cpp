#include "cresco/verbs/plan.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/step_cost.h"
#include "cresco/tensor/bridge.h"
#include "cresco/tensor/product_rate.h"
#include "cresco/trajectories/steps.h"
#include "cresco/verbs/train_members.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

namespace cresco::verbs {
namespace {

using dictionaries::StepTiming;
using dictionaries::TrainingData;
using dictionaries::TrainingPlan;
using dictionaries::TrainingRun;
using dictionaries::TrainingShape;
using dictionaries::TrainingTime;
using trajectories::Stack;

// The stack that trainings would read, or only its shape.
struct Source : MemberSource {
  std::optional<Stack> stack;
  std::string what;
  std::vector<std::vector<std::int64_t>> snapshots;  // as grouped()
};

// The snapshots that the settings name, of a stack of which only their number is known.
std::vector<std::int64_t> steps_of_shape(const PlanConfig& config, std::int64_t count) {
  if (config.steps.empty() || config.steps == "all") {
    std::vector<std::int64_t> steps(static_cast<std::size_t>(count));
    std::iota(steps.begin(), steps.end(), 0);
    return steps;
  }
  require_usage(config.steps != "log2",
                "--steps log2 is what a stack has of them, and --shape does not say: name them");
  const auto steps = trajectories::named_steps(config.steps, 0, "--steps");
  require_usage(static_cast<std::int64_t>(steps.size()) <= count,
                "--shape has {} snapshots, the settings name {} (--steps {})", count, steps.size(),
                config.steps);
  return steps;
}

// A GPU that is not here may be planned for, by its memory and speed.
at::Device device_of(const PlanConfig& config, const std::string& name) {
  require_usage(config.gpu_memory >= 0 && std::isfinite(config.gpu_memory),
                "--gpu-memory is {} GB, expected more than 0", config.gpu_memory);
  if (config.gpu_memory == 0) return tensor::parse_device(name);
  require_usage(name == "cuda" && !config.shape.empty() && config.gflops > 0,
                "--gpu-memory stands for a GPU that is not here: it goes with --shape, --device "
                "cuda and --gflops");
  return at::kCUDA;
}

Source source_of(const PlanConfig& config, at::Device device) {
  require_usage(config.stack.empty() != config.shape.empty(),
                "one of STACK and --shape is needed, and not both");
  require_usage(config.gflops >= 0 && std::isfinite(config.gflops),
                "--gflops is {}, expected a speed above 0", config.gflops);
  require_usage(config.gflops == 0 || !config.shape.empty(),
                "--gflops goes with --shape: with a stack, steps of its training are timed");
  Source source;
  source.device = device.type();
  if (config.shape.empty()) {
    source.stack.emplace(config.stack);
    const Stack& stack = *source.stack;
    source.what = stack.path().string();
    source.matrix = stack.info().matrix;
    source.steps = stack.steps();
    source.rows = stack.num_rows();
    source.width = stack.width();
    source.snapshots = snapshots_of(config, stack);
    return source;
  }
  require_usage(config.shape.size() == 3, "--shape has {} numbers, expected three: V,K,d",
                config.shape.size());
  for (const double n : config.shape)
    require_usage(n >= 1 && n == std::floor(n) && n < 1e9, "--shape: {} is no size", n);
  source.what = "--shape";
  source.matrix = "W_U";
  source.rows = static_cast<std::int64_t>(config.shape[0]);
  require_usage(config.shape[1] <= 1e6, "--shape: {} snapshots are too many", config.shape[1]);
  source.width = static_cast<std::int64_t>(config.shape[2]);
  source.steps = steps_of_shape(config, static_cast<std::int64_t>(config.shape[1]));
  std::vector<std::int64_t> all(source.steps.size());
  std::iota(all.begin(), all.end(), 0);
  source.snapshots = grouped(config, all);
  return source;
}

// With the heads shared out over R ranks, R the smallest divisor of K with which a rank fits into
// the memory that is there; 0 when none does.
struct Ranks {
  std::int64_t count = 0;
  double bytes = 0, gpu_bytes = 0;  // of the first
};
Ranks ranks_that_fit(const TrainingRun& run, TrainingShape shape, at::DeviceType device,
                     double available, double gpu_available) {
  if (run.kind != "crosscoder") return {};
  const std::int64_t heads = shape.heads;
  for (std::int64_t count = 2; count <= heads; ++count) {
    if (heads % count != 0) continue;
    shape.heads = heads / count;
    shape.ranks = count;
    const TrainingPlan plan = plan_training(run, shape, device);
    if (plan.memory_bytes <= available && plan.gpu_bytes <= gpu_available)
      return {count, plan.memory_bytes, plan.gpu_bytes};
  }
  return {};
}

std::string ranks_text(const Ranks& ranks) {
  if (ranks.count == 0) return "";
  if (ranks.gpu_bytes > 0)
    return fmt::format("on {} ranks, each with such a GPU, it takes {} and the first process {}",
                       ranks.count, human_bytes(ranks.gpu_bytes), human_bytes(ranks.bytes));
  return fmt::format("on {} ranks, each with such a machine, the first takes {}", ranks.count,
                     human_bytes(ranks.bytes));
}

// Without the stack there are no steps to time. A step has the FLOPs of five products of batch and
// weights; ones measured on one processor took the time of 2 (few open gates) to 9 (many); that a
// whole training averages 3 is a guess. On a GPU all five are made; what stands between them takes
// twice their time by a count of its bytes (docs/design.md), which nobody has measured.
TrainingTime time_of_products(double flops, double gflops, at::DeviceType device) {
  const double product = flops / 5 / (gflops * 1e9);
  if (device != at::kCPU) return {6 * product, 15 * product, 30 * product};
  return {2 * product, 3 * product, 9 * product};
}

// Trainings that have this in common take the same time at the same open gates.
std::string cost_key(const Member& member) {
  const auto& c = member.run.training;
  return fmt::format("{} {} {} {} {} {} {} {}", member.indices.size(), c.d_sae, c.batch_size, c.k,
                     c.amp_dtype, c.optimizer, c.auxk_coefficient > 0 ? c.auxk_k : 0, c.target_l0);
}

Json timings_json(const std::vector<StepTiming>& timings) {
  Json list = Json::array();
  for (const StepTiming& t : timings) list.push_back({{"l0", t.l0}, {"seconds", t.seconds}});
  return list;
}

}  // namespace

Outcome run_plan(const PlanConfig& config, VerbContext& context) {
  const at::Device device = device_of(config, context.options.device);
  const Source source = source_of(config, device);
  const std::vector<Member> members = members_of(config, source.snapshots, source, context);
  // Where a GPU that is not here stands, its machine is not this one either.
  const double available = config.gpu_memory > 0 ? std::numeric_limits<double>::infinity()
                                                 : static_cast<double>(available_bytes());
  const MemoryNeed need = memory_of(members);
  const double gpu_available = device.is_cpu()         ? 0
                               : config.gpu_memory > 0 ? config.gpu_memory * 1e9
                                                       : tensor::free_bytes(device);
  const bool fits = need.one <= available && need.gpu <= gpu_available;
  const Member& largest = largest_of(members);
  const Ranks ranks =
      fits || members.size() > 1
          ? Ranks{}
          : ranks_that_fit(largest.run, largest.shape, device.type(), available, gpu_available);
  const std::string text = ranks_text(ranks);
  if (source.stack) require_memory(members, source.what, device, text.empty() ? "" : "; " + text);
  double flops = 0, state = 0, dictionary = 0, disk = 0;
  std::int64_t steps = 0;
  for (const Member& member : members) {
    const TrainingPlan& plan = member.plan;
    flops += plan.flops;
    steps += plan.last_step;
    state = std::max(state, plan.state_bytes);
    dictionary = std::max(dictionary, plan.dictionary_bytes);
    disk += static_cast<double>(plan.num_states) * plan.state_bytes + plan.dictionary_bytes;
  }

  TrainingTime time;
  Json timings;
  double load_seconds = 0, gflops = config.gflops;
  if (source.stack) {
    std::map<std::string, std::vector<StepTiming>> timed;
    std::string hash;
    std::int64_t done = 0;
    context.progress.begin("plan", static_cast<std::int64_t>(members.size()), "training");
    for (const Member& member : members) {
      auto found = timed.find(cost_key(member));
      if (found == timed.end()) {
        const double started = now_seconds();
        const TrainingData rows = dictionaries::load_training_data(*source.stack, member.indices,
                                                                   member.run, hash, {}, device);
        hash = rows.stack_sha256;
        if (load_seconds == 0) load_seconds = now_seconds() - started;
        found = timed.emplace(cost_key(member), time_steps(member.run, rows)).first;
        if (timings.is_null()) timings = timings_json(found->second);
      }
      const TrainingTime one = predict_time(member.run, member.plan, found->second);
      time = {time.low + one.low, time.likely + one.likely, time.high + one.high};
      context.progress.update(++done, "");
    }
    context.progress.end();
    time = {time.low + load_seconds, time.likely + load_seconds, time.high + load_seconds};
  } else {
    if (gflops == 0) gflops = tensor::product_gflops(device);
    time = time_of_products(flops, gflops, device.type());
  }

  const double memory = need.all, parameters = need.parameter, resident = need.resident,
               work = memory - parameters - resident;
  const std::string& name = members[0].run.name;
  Outcome outcome;
  outcome.summary = {{"name", name},
                     {"trainings", members.size()},
                     {"steps", steps},
                     {"flops", flops},
                     {"memory_bytes", memory},
                     {"parameter_bytes", parameters},
                     {"resident_bytes", resident},
                     {"work_bytes", work},
                     {"fits", fits},
                     {"disk_bytes", disk},
                     {"state_bytes", state},
                     {"dictionary_bytes", dictionary},
                     {"seconds_low", time.low},
                     {"seconds", time.likely},
                     {"seconds_high", time.high}};
  if (std::isfinite(available)) outcome.summary["available_bytes"] = available;
  if (!device.is_cpu()) {
    outcome.summary["gpu_bytes"] = need.gpu;
    outcome.summary["gpu_available_bytes"] = gpu_available;
  }
  if (source.stack) {
    outcome.summary["time_from"] = "steps";
    outcome.summary["load_seconds"] = load_seconds;
    outcome.summary["timings"] = timings;
  } else {
    outcome.summary["time_from"] = config.gflops > 0 ? "gflops" : "product";
    outcome.summary["gflops"] = gflops;
  }
  if (!fits) {
    outcome.summary["ranks"] = ranks.count;
    outcome.summary["rank_bytes"] = ranks.bytes;
    if (ranks.gpu_bytes > 0) outcome.summary["rank_gpu_bytes"] = ranks.gpu_bytes;
  }
  outcome.text = fmt::format(
      "{}: {}{} steps, {:.3g} FLOPs as dense products\n"
      "memory {}: weights and moments {}, resident rows {}, a step's work {}{}\n"
      "disk {} at most: states of {}, dictionary {}\n"
      "time {:.3g} s, from {:.3g} to {:.3g}, by {}\n",
      name, members.size() > 1 ? fmt::format("{} trainings, ", members.size()) : "", steps, flops,
      human_bytes(memory), human_bytes(parameters), human_bytes(resident), human_bytes(work),
      std::isfinite(available) ? "; " + human_bytes(available) + " are there" : "",
      human_bytes(disk), human_bytes(state), human_bytes(dictionary), time.likely, time.low,
      time.high,
      source.stack ? "steps of it that were timed"
                   : fmt::format("products at {:.0f} GFLOP/s ({})", gflops,
                                 config.gflops > 0 ? "given" : "measured here"));
  if (!device.is_cpu())
    outcome.text += fmt::format("GPU memory {} of {} that are free\n", human_bytes(need.gpu),
                                human_bytes(gpu_available));
  if (!fits)
    outcome.text +=
        ranks.count > 0 ? "does not fit; " + ranks_text(ranks) + "\n" : "does not fit\n";
  return outcome;
}

}  // namespace cresco::verbs
