#include "cresco/lifecycle/derived.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/formats/npy.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/torch_writer.h"
#include "cresco/lifecycle/cusum.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

namespace cresco::lifecycle {
namespace {

using tensor::NamedTensor;

at::Tensor in_float(const at::Tensor& t) { return t.to(at::kFloat).contiguous(); }

// A folder that grows, with the paths of what was written.
class Writer {
 public:
  explicit Writer(Path folder) : folder_(std::move(folder)) {}

  void npy(const std::string& path, const at::Tensor& array) {
    const at::Tensor floats = in_float(array);
    formats::write_npy(place(path), formats::DType::F32, floats.sizes().vec(),
                       tensor::view_of("", floats).bytes);
  }
  void npz(const std::string& path, const std::vector<NamedTensor>& arrays) {
    formats::write_npz(place(path), views_of(arrays));
  }
  // `values` with the tensors at their torch_place.
  void pt(const std::string& path, const Json& values, const std::vector<NamedTensor>& tensors) {
    formats::write_torch(place(path), values, views_of(tensors));
  }
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  Path place(const std::string& path) {
    std::filesystem::create_directories((folder_ / path).parent_path());
    paths_.push_back(path);
    return folder_ / path;
  }
  std::vector<formats::TensorView> views_of(const std::vector<NamedTensor>& tensors) {
    std::vector<formats::TensorView> views;
    for (const auto& [name, t] : tensors) views.push_back(tensor::view_of(name, t));
    return views;
  }

  Path folder_;
  std::vector<std::string> paths_;
};

// The letters, digits and ".-_" of a text; anything else could be no file's name.
std::string as_file_name(const std::string& text) {
  std::string out = text;
  for (char& c : out)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-' && c != '_') c = '_';
  return out;
}

// "EleutherAI/pythia-160m" -> "pythia-160m"
std::string model_label(const DerivedRun& run) {
  return as_file_name(run.model.substr(run.model.rfind('/') + 1));
}

// "W_U" -> "wu"
std::string matrix_label(const DerivedRun& run) {
  std::string out;
  for (const char c : as_file_name(run.matrix))
    if (c != '_') out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::int64_t features(const DerivedRun& run) { return run.rates_KF.size(1); }

// rate / peak rate; 0 for a feature that never fires.
at::Tensor normalised_rates(const at::Tensor& rates_KF) {
  const at::Tensor peak_F = rates_KF.amax(0);
  return at::where(peak_F > 0, rates_KF / peak_F, at::zeros_like(rates_KF));
}

template <class Number, class Of>
at::Tensor of_lives(const DerivedRun& run, at::ScalarType type, const Of& of) {
  std::vector<Number> values;
  for (const RateLifecycle& life : run.lives) values.push_back(static_cast<Number>(of(life)));
  return at::tensor(values).to(type);
}

void write_lifecycle(Writer& writer, const std::string& path, const DerivedRun& run) {
  const auto indices = [&](std::int64_t RateLifecycle::*member) {
    return of_lives<std::int64_t>(run, at::kInt, [&](const RateLifecycle& l) { return l.*member; });
  };
  writer.npz(
      path, {{"first_active", indices(&RateLifecycle::first_active)},
             {"peak_step", indices(&RateLifecycle::peak)},
             {"lifetime",
              of_lives<double>(run, at::kFloat, [](const RateLifecycle& l) { return l.lifetime; })},
             {"stabilized_step", indices(&RateLifecycle::stabilized)},
             {"drift_score",
              of_lives<double>(run, at::kFloat, [](const RateLifecycle& l) { return l.drift; })},
             {"never_active_mask", run.rates_KF.amax(0).lt(RateRule{}.floor)}});
}

void write_null(Writer& writer, const std::string& path, const CusumNull& null) {
  writer.pt(path,
            {{"observed", null.observed},
             {"p_value", null.p_value},
             {"n_permutations", null.num_permutations},
             {"effective_batch", 1},  // permutations are drawn one by one
             {"null_mean", null.mean},
             {"null_std", null.deviation},
             {"null_max", null.max},
             {"null_p95", null.p95},
             {"null_p99", null.p99},
             {"obs_in_null_sigma_units",
              null.deviation > 0 ? (null.observed - null.mean) / null.deviation : 0.0},
             {"n_null_geq_obs", null.num_at_least},
             {"stat_kind", "signed_cusum_max_feature"}},
            {});
}

void write_aggregates(Writer& writer, const std::string& path, const DerivedRun& run) {
  const auto K = static_cast<std::int64_t>(run.steps.size());
  std::vector<NamedTensor> tensors{
      {"rates", in_float(run.rates_KF)},
      {"decoder_norms", in_float(run.norms_KF)},
      {"cusum_max", in_float(cusum_max(run.rates_KF))},
      {"peak_steps", of_lives<std::int64_t>(run, at::kLong, [&](const RateLifecycle& l) {
         return l.peak < K ? run.steps[static_cast<std::size_t>(l.peak)] : -1;
       })}};
  Json values;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    values[tensors[i].first] = formats::torch_place(i);
  values["steps"] = run.steps;
  values["preprocess_stats"] = nullptr;
  if (run.input_preprocess != "none") {
    std::vector<at::Tensor> means;
    std::vector<double> scales;
    for (const auto& s : run.statistics) {
      means.push_back(s.mean_D);
      scales.push_back(s.scale);
    }
    values["preprocess_stats"] = {{"mean", formats::torch_place(tensors.size())},
                                  {"scale", formats::torch_place(tensors.size() + 1)},
                                  {"mode", run.input_preprocess}};
    tensors.emplace_back("mean", in_float(at::stack(means).unsqueeze(1)));
    tensors.emplace_back("scale", in_float(at::tensor(scales).view({K, 1, 1})));
  }
  writer.pt(path, values, tensors);
}

std::string rates_folder(const DerivedSet& set) {
  return fmt::format("rates/{}{}/", set.name, set.has_seeds ? "-multiseed" : "");
}

}  // namespace

std::string set_name(const DerivedRun& run) {
  std::string model = model_label(run);
  if (model.starts_with("pythia-")) model = model.substr(std::string_view("pythia-").size());
  if (model == "160m") model = "";
  return fmt::format("{}{}{}-d{}", matrix_label(run), model.empty() ? "" : "-", model,
                     features(run));
}

std::vector<std::string> write_derived(const Path& folder, const DerivedSet& set,
                                       const DerivedRun& run,
                                       const std::optional<CusumNull>& null) {
  Writer writer(folder);
  const std::string own = fmt::format("{}__seed{}/", set.name, run.seed);
  writer.npy(own + "rates_norm.npy", normalised_rates(run.rates_KF));
  writer.npy(own + "rotation.npy", run.rotation_JF);
  const std::int64_t J = run.rotation_JF.size(0);
  writer.npy(
      own + "rotation_weight.npy",
      (run.norms_KF.narrow(0, 0, J) * run.norms_KF.narrow(0, run.norms_KF.size(0) - J, J)).sqrt());
  writer.npy(own + "direction_to_terminal.npy", run.distance_to_terminal_KF);
  write_lifecycle(writer, own + "lifecycle.npz", run);
  writer.npz(own + "cusum.npz", {{"cusum_rates", in_float(cusum_max(run.rates_KF))},
                                 {"cusum_norms", in_float(cusum_max(run.norms_KF))},
                                 {"cusum_rotation", in_float(cusum_max(run.rotation_JF))}});
  if (null) write_null(writer, own + "cusum_null.pt", *null);
  write_aggregates(writer,
                   fmt::format("aggregates/aggregates_{}_d{}_seed{}.pt", model_label(run),
                               features(run), run.seed),
                   run);
  const std::string rates = rates_folder(set);
  writer.pt(
      fmt::format("{}{}_rates_dsae{}_seed{}.pt", rates, matrix_label(run), features(run), run.seed),
      {{"rates_per_seed", {{run.name, formats::torch_place(0)}}}, {"steps", run.steps}},
      {{run.name, in_float(run.rates_KF)}});
  writer.npy(
      rates + fmt::format(fmt::runtime(run.matrix == "W_E" ? "we_cc_dsae{}_seed{}_norms.npy"
                                                           : "decoder_norms_dsae{}_seed{}.npy"),
                          features(run), run.seed),
      run.norms_KF);
  return writer.paths();
}

void check_seeds(const std::vector<DerivedRun>& runs) {
  std::set<std::int64_t> seeds;
  std::set<std::string> names;
  for (const DerivedRun& run : runs) {
    require(set_name(run) == set_name(runs[0]) && run.steps == runs[0].steps,
            "{}: is of {} and steps {}, {} of {} and steps {}: arrays of several seeds need one "
            "model, matrix, size and schedule",
            run.name, set_name(run), list_steps(run.steps), runs[0].name, set_name(runs[0]),
            list_steps(runs[0].steps));
    require(seeds.insert(run.seed).second, "{}: another dictionary has seed {} too", run.name,
            run.seed);
    require(names.insert(run.name).second, "{}: another dictionary has that name too", run.name);
  }
}

std::vector<std::string> write_derived_of_seeds(const Path& folder, const DerivedSet& set,
                                                const std::vector<DerivedRun>& runs) {
  check_seeds(runs);
  std::vector<at::Tensor> rates, norms;
  std::vector<NamedTensor> named;
  Json places;
  for (const DerivedRun& run : runs) {
    places[run.name] = formats::torch_place(named.size());
    rates.push_back(in_float(run.rates_KF));
    norms.push_back(in_float(run.norms_KF));
    named.emplace_back(run.name, rates.back());
  }
  Writer writer(folder);
  const std::string place = rates_folder(set);
  writer.npy(place + "firing_rates_all_seeds.npy", at::stack(rates));
  writer.npy(place + "decoder_norms_all_seeds.npy", at::stack(norms));
  writer.pt(place + "rates_all_seeds.pt", {{"rates_per_seed", places}, {"steps", runs[0].steps}},
            named);
  return writer.paths();
}

}  // namespace cresco::lifecycle
