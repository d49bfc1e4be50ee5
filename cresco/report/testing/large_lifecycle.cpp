#include "cresco/report/testing/large_lifecycle.h"

#include "cresco/base/random.h"
#include "cresco/formats/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace cresco::report::testing {
namespace {

// 32 steps as Pythia's: doubling up to 512, then even, and the last.
std::vector<std::int64_t> steps() {
  std::vector<std::int64_t> all{0};
  for (std::int64_t step = 1; step <= 512; step *= 2) all.push_back(step);
  for (std::int64_t i = 0; all.size() < 31; ++i) all.push_back(1000 + 6800 * i);
  all.push_back(143000);
  return all;
}

// A word of its own for each token, most with the space before it that such vocabularies have.
std::string word(std::uint64_t token) {
  std::string text = token % 3 == 0 ? "" : " ";
  for (std::uint64_t rest = token * 2654435761u % 11881376; text.size() < 2 || rest > 0; rest /= 26)
    text += static_cast<char>('a' + rest % 26);
  return text;
}

class Lifecycle {
 public:
  Lifecycle(const Path& folder, std::int64_t num_features)
      : folder_(folder), F_(num_features), steps_(steps()) {}

  void write() {
    std::filesystem::create_directories(folder_);
    write_features();
    write_neighbours();
    write_tokens("promoted_tokens.csv", 1);
    write_tokens("suppressed_tokens.csv", -1);
    std::string table = "step\n";
    for (const std::int64_t step : steps_) table += fmt::format("{}\n", step);
    write_file(folder_ / "steps.csv", table);
    write_file(folder_ / "manifest.json", "{\"verb\": \"lifecycle\", \"version\": \"made up\"}\n");
  }

 private:
  static double place(std::int64_t step) { return std::log10(1.0 + static_cast<double>(step)); }

  void write_features() {
    RandomStream random(0, "large_lifecycle/features");
    const std::size_t K = steps_.size();
    const auto F = static_cast<std::size_t>(F_);
    std::vector<float> norms(K * F), rates(K * F);
    std::string table =
        "feature,alive,born_step,died_step,peak_step,peak_norm,final_norm,peak_rate,final_rate,"
        "first_active_step,lifetime,stabilized_step,drift,profile,peak_rate_step\n";
    for (std::size_t f = 0; f < F; ++f) {
      const double birth = -1 + 5 * random.uniform(),
                   death = f % 4 == 1 ? birth + 1 + random.uniform() : 9;
      const double size = f % 29 == 3 ? 0 : 0.2 + random.uniform();
      const double rate = std::pow(10, -4.3 + 3 * random.uniform());
      std::size_t peak = 0, most = 0;
      for (std::size_t k = 0; k < K; ++k) {
        const double x = place(steps_[k]);
        const double norm = size / (1 + std::exp(6 * (birth - x))) /
                            (1 + std::exp(6 * (x - death))) * (1 + 0.03 * random.normal());
        norms[k * F + f] = static_cast<float>(std::max(norm, 0.0));
        rates[k * F + f] =
            std::round(static_cast<float>(50304 * rate * norm * (1 + 0.1 * random.normal()))) /
            50304;
        rates[k * F + f] = std::max(rates[k * F + f], 0.0f);
        if (norms[k * F + f] > norms[peak * F + f]) peak = k;
        if (rates[k * F + f] > rates[most * F + f]) most = k;
      }
      const float peak_norm = norms[peak * F + f];
      std::size_t born = 0, died = K - 1;
      while (born + 1 < K && norms[born * F + f] < 0.5f * peak_norm) ++born;
      while (died > 0 && norms[died * F + f] < 0.5f * peak_norm) --died;
      const char* const profiles[] = {"persistent", "transitional", "early-decaying",
                                      "late-emerging", "mixed"};
      if (size > 0) alive_.push_back(static_cast<std::int64_t>(f));
      peaks_.push_back(steps_[peak]);
      table += fmt::format(
          "{},{},{},{},{},{},{},{},{},{},{:.4f},{},{:.5f},{},{}\n", f, size > 0 ? 1 : 0,
          size > 0 && born > 0 ? fmt::to_string(steps_[born]) : "",
          size > 0 && died + 1 < K ? fmt::to_string(steps_[died]) : "", steps_[peak], peak_norm,
          norms[(K - 1) * F + f], rates[most * F + f], rates[(K - 1) * F + f],
          steps_[std::min(born + 1, K - 1)], static_cast<double>(died - born + 1) / double(K),
          steps_[std::min(born + 3, K - 1)], 0.1 * random.uniform(),
          size > 0 ? profiles[random.below(5)] : "", steps_[most]);
    }
    write_file(folder_ / "features.csv", table);
    const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(K), F_};
    formats::write_npy(folder_ / "decoder_norms.npy", shape, norms);
    formats::write_npy(folder_ / "rates.npy", shape, rates);
  }

  void write_neighbours() {
    RandomStream random(0, "large_lifecycle/neighbours");
    std::string table = "feature,rank,neighbour,cosine\n";
    for (const std::int64_t f : alive_) {
      double cosine = 1;
      for (int rank = 1; rank <= 5; ++rank)
        table += fmt::format("{},{},{},{:.6f}\n", f, rank, alive_[random.below(alive_.size())],
                             cosine *= 0.7 + 0.3 * random.uniform());
    }
    write_file(folder_ / "neighbours.csv", table);
  }

  void write_tokens(const char* file, int sign) {
    RandomStream random(0, std::string("large_lifecycle/") + file);
    std::string table = "feature,step,rank,token_id,token,score,floor\n";
    for (const std::int64_t f : alive_) {
      std::vector<std::int64_t> at{0, 64, 1000, 28200, 143000};
      if (const std::int64_t peak = peaks_[static_cast<std::size_t>(f)];
          std::find(at.begin(), at.end(), peak) == at.end())
        at[peak < 250 ? 1 : peak < 5000 ? 2 : 3] = peak;
      for (const std::int64_t step : at) {
        double score = 1 + 4 * random.uniform();
        for (int rank = 1; rank <= 10; ++rank) {
          const std::uint64_t token = random.below(50000);
          const bool planted = sign > 0 && f == kPlantedFeature && rank == 3;
          table += fmt::format("{},{},{},{},{},{:.6g},{:.6g}\n", f, step, rank, token,
                               planted ? kPlantedToken : word(token), sign * score, sign * 1.9);
          score *= 0.9 + 0.1 * random.uniform();
        }
      }
    }
    write_file(folder_ / file, table);
  }

  const Path folder_;
  const std::int64_t F_;
  const std::vector<std::int64_t> steps_;
  std::vector<std::int64_t> alive_, peaks_;
};

}  // namespace

void write_large_lifecycle(const Path& folder, std::int64_t num_features) {
  Lifecycle(folder, num_features).write();
}

}  // namespace cresco::report::testing
