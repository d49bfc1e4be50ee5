#include "cresco/evals/fidelity.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"
#include "cresco/models/neox.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

namespace cresco::evals {
namespace {

constexpr std::int64_t kVocabulary = 23, kWidth = 8;

at::Tensor normal(at::IntArrayRef shape, std::string_view purpose) {
  at::Tensor out = at::empty(shape);
  RandomStream(5, purpose)
      .fill_normal({out.mutable_data_ptr<float>(), static_cast<std::size_t>(out.numel())}, 0, 1);
  return out;
}

families::NeoxConfig tiny() {
  families::NeoxConfig c;
  c.vocab_size = kVocabulary;
  c.hidden_size = kWidth;
  c.num_hidden_layers = 1;
  c.num_attention_heads = 2;
  c.intermediate_size = 16;
  c.max_position_embeddings = 12;
  c.rotary_pct = 0.5;
  return c;
}

models::Neox tiny_model() {
  std::vector<tensor::NamedTensor> weights;
  for (const auto& spec : families::neox_tensors(tiny()))
    weights.emplace_back(spec.name, normal(spec.shape, spec.name));
  return models::Neox(tiny(), std::move(weights));
}

at::Tensor readout_of(const models::LanguageModel& model) {
  for (const auto& [name, weight] : model.weights())
    if (name == "embed_out.weight") return weight;
  return {};
}

at::Tensor some_ids() {
  at::Tensor ids_NT = at::empty({3, 12}, at::kLong);
  RandomStream random(6, "ids");
  for (std::int64_t i = 0; i < ids_NT.numel(); ++i)
    ids_NT.view(-1)[i] = static_cast<std::int64_t>(random.below(kVocabulary - 3));
  return ids_NT;
}

// The formulas as they stand, prediction by prediction, in double, from the model's own logits.
std::map<std::string, double> slow_fidelity(const models::LanguageModel& model,
                                            const at::Tensor& ids_NT, const at::Tensor& native_VD,
                                            const at::Tensor& recon_VD) {
  std::map<std::string, double> out;
  std::vector<at::Tensor> all, all_recon;
  double count = 0;
  const auto top = [](const at::Tensor& logits_V, std::size_t few) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(logits_V.numel()));
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return logits_V[a].item<double>() > logits_V[b].item<double>();
    });
    return std::set<std::int64_t>(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(few));
  };
  for (std::int64_t n = 0; n < ids_NT.size(0); ++n) {
    const at::Tensor hidden_TD = model.hidden(ids_NT.narrow(0, n, 1))[0].to(at::kDouble);
    for (std::int64_t t = 0; t + 1 < ids_NT.size(1); ++t, ++count) {
      const auto target = ids_NT[n][t + 1].item<std::int64_t>();
      const at::Tensor l = native_VD.to(at::kDouble).mv(hidden_TD[t]);
      const at::Tensor r = recon_VD.to(at::kDouble).mv(hidden_TD[t]);
      all.push_back(l);
      all_recon.push_back(r);
      const at::Tensor p = l.softmax(0), q = r.softmax(0);
      out["kl_native_to_recon"] += (p * (p.log() - q.log())).sum().item<double>();
      out["nll_native"] -= std::log(p[target].item<double>());
      out["nll_recon"] -= std::log(q[target].item<double>());
      out["top1_native"] += static_cast<double>(top(l, 1).count(target));
      out["top1_recon"] += static_cast<double>(top(r, 1).count(target));
      out["top5_native"] += static_cast<double>(top(l, 5).count(target));
      out["top5_recon"] += static_cast<double>(top(r, 5).count(target));
      out["top1_agreement"] += top(l, 1) == top(r, 1);
      for (const std::int64_t id : top(l, 5))
        out["top5_overlap"] += static_cast<double>(top(r, 5).count(id)) / 5;
    }
  }
  for (auto& [id, value] : out) value /= count;
  out["n_predictions"] = count;
  out["delta_nll"] = out["nll_recon"] - out["nll_native"];
  out["ppl_native"] = std::exp(out["nll_native"]);
  out["ppl_recon"] = std::exp(out["nll_recon"]);
  const at::Tensor l = at::stack(all), r = at::stack(all_recon);
  const auto r2 = [](const at::Tensor& x, const at::Tensor& y, const at::Tensor& centre) {
    return 1 - ((y - x).square().sum() / (x - centre).square().sum()).item<double>();
  };
  out["logit_r2"] = r2(l, r, l.mean());
  const at::Tensor lc = l - l.mean(1, true), rc = r - r.mean(1, true);
  out["centered_logit_r2"] = r2(lc, rc, at::zeros({}, at::kDouble));
  const at::Tensor w = native_VD.to(at::kDouble);
  out["matrix_sse"] = (recon_VD - w).square().sum().item<double>();
  out["matrix_var"] = (w - w.mean(0)).square().sum().item<double>();
  out["matrix_ev"] = 1 - out["matrix_sse"] / out["matrix_var"];
  return out;
}

TEST(Fidelity, IsWhatTheFormulasSay) {
  const models::Neox model = tiny_model();
  const at::Tensor ids_NT = some_ids(), native_VD = readout_of(model);
  const at::Tensor recon_VD = native_VD + 0.4 * normal({kVocabulary, kWidth}, "noise");
  const auto expected = slow_fidelity(model, ids_NT, native_VD, recon_VD);
  for (const std::int64_t batch : {1, 2, 8}) {
    const Predictions predictions = predictions_of(model, ids_NT, batch);
    EXPECT_LT(readout_difference(model, predictions, native_VD), 1e-6);
    EXPECT_GT(readout_difference(model, predictions, recon_VD), 0.1);
    for (const std::int64_t block_bytes : {1, 4000, 1 << 20}) {
      std::int64_t seen = 0;
      const ReadoutFidelity made = measure_fidelity(predictions, native_VD, recon_VD, block_bytes,
                                                    [&](std::int64_t done) { seen = done; });
      EXPECT_EQ(seen, 33);
      EXPECT_EQ(made.values.size(), expected.size());
      for (const auto& [id, value] : expected)
        EXPECT_NEAR(made.value(id), value, 2e-5 * std::max(1.0, std::abs(value))) << id;
    }
  }
}

TEST(Fidelity, OfTheSameReadoutIsPerfect) {
  const models::Neox model = tiny_model();
  const Predictions predictions = predictions_of(model, some_ids(), 2);
  const at::Tensor w_VD = readout_of(model);
  const ReadoutFidelity made = measure_fidelity(predictions, w_VD, w_VD.clone(), 1 << 20);
  for (const char* id :
       {"logit_r2", "centered_logit_r2", "top1_agreement", "top5_overlap", "matrix_ev"})
    EXPECT_EQ(made.value(id), 1) << id;
  for (const char* id : {"kl_native_to_recon", "delta_nll", "matrix_sse"})
    EXPECT_EQ(made.value(id), 0) << id;
  EXPECT_EQ(made.value("ppl_native"), made.value("ppl_recon"));
  EXPECT_THROW(made.value("r2"), Error);
}

// A direction that all rows share adds 1,000 to every logit: the mean square less the squared mean,
// in float32, would leave no digit of the variance.
TEST(Fidelity, KeepsItsDigitsWhenLogitsAreLarge) {
  const std::int64_t N = 400, V = 60;
  at::Tensor hidden_ND = normal({N, kWidth}, "hidden"), native_VD = normal({V, kWidth}, "native");
  hidden_ND.select(1, 0).fill_(1000);
  native_VD.select(1, 0).fill_(1);
  const at::Tensor recon_VD =
      native_VD + 0.1 * normal({V, kWidth}, "small").slice(1, 0, kWidth) * at::arange(kWidth).gt(0);
  const Predictions predictions{hidden_ND, at::zeros({N}, at::kLong)};
  const at::Tensor l = hidden_ND.to(at::kDouble).mm(native_VD.to(at::kDouble).t());
  const at::Tensor r = hidden_ND.to(at::kDouble).mm(recon_VD.to(at::kDouble).t());
  const double expected =
      1 - ((r - l).square().sum() / (l - l.mean()).square().sum()).item<double>();
  EXPECT_LT(expected, 0.995);
  for (const std::int64_t block_bytes : {1 << 12, 1 << 16, 1 << 24})
    EXPECT_NEAR(measure_fidelity(predictions, native_VD, recon_VD, block_bytes).value("logit_r2"),
                expected, 1e-4);
}

TEST(Fidelity, OfTheBinsOfAPartitionAddsUpToTheWhole) {
  const models::Neox model = tiny_model();
  const Predictions predictions = predictions_of(model, some_ids(), 2);
  const at::Tensor native_VD = readout_of(model);
  const at::Tensor recon_VD = native_VD + 0.4 * normal({kVocabulary, kWidth}, "noise");
  const ReadoutFidelity whole = measure_fidelity(predictions, native_VD, recon_VD, 1 << 20);
  Partition partition{"thirds", {"a", "b", "c", "none"}, {}};
  for (std::int64_t v = 0; v < kVocabulary; ++v) partition.bin_of.push_back(v % 3);
  const auto bins = fidelity_by_bin(whole, predictions.target_N, partition);
  ASSERT_EQ(bins.size(), 4u);
  std::map<std::string, double> sums;
  for (const FidelityBin& bin : bins) {
    double weight = 0;
    for (const auto& [id, value] : bin.values) {
      const std::string name = id;
      if (name.starts_with("n_") || name == "matrix_sse" || name == "matrix_var")
        sums[name] += value;
      if (name == "n_targets") weight = value;
      if (name == "nll_native" || name == "nll_recon" || name == "kl_to_native" ||
          name == "top1_agreement")
        sums[name] += weight > 0 ? weight * value / 33 : 0;
    }
  }
  EXPECT_EQ(sums["n_rows"], kVocabulary);
  EXPECT_EQ(sums["n_targets"], 33);
  sums.erase("n_rows");
  sums.erase("n_targets");
  sums["kl_native_to_recon"] = sums["kl_to_native"];
  sums.erase("kl_to_native");
  EXPECT_EQ(sums.size(), 6u);
  for (const auto& [id, sum] : sums) EXPECT_NEAR(sum, whole.value(id), 1e-9) << id;
  EXPECT_TRUE(std::isnan(bins[3].values[6].value));
  // One bin by hand: of its rows about the mean of all rows.
  const at::Tensor w = native_VD.to(at::kDouble);
  const at::Tensor third = (w - w.mean(0)).slice(0, 1, kVocabulary, 3).square().sum();
  EXPECT_NEAR(bins[1].values[3].value, third.item<double>(), 1e-9);
  const at::Tensor residual = (recon_VD - w).slice(0, 1, kVocabulary, 3).norm(2, 1).mean();
  EXPECT_NEAR(bins[1].values[4].value, residual.item<double>(), 1e-9);
}

TEST(Fidelity, ReadsTheFirstWindowsOfACorpus) {
  const TemporaryFolder folder;
  formats::TokenFileWriter writer(folder / "c", formats::TokenType::U16);
  for (const std::vector<std::int32_t>& document :
       {std::vector<std::int32_t>{0, 1, 2}, std::vector<std::int32_t>{3, 4, 5, 6, 7}})
    writer.append(document);
  writer.commit();
  const at::Tensor two = first_windows(folder / "c", 2, 3);
  EXPECT_TRUE(at::equal(two, at::arange(6).reshape({2, 3})));
  EXPECT_EQ(first_windows(folder / "c", 9, 3).size(0), 2);  // a tail of two is left out
  EXPECT_THROW(first_windows(folder / "c", 1, 9), Error);
  EXPECT_THROW(first_windows(folder / "c", 0, 3), UsageError);
  const models::Neox model = tiny_model();
  EXPECT_THROW(predictions_of(model, at::full({1, 4}, kVocabulary, at::kLong), 1), Error);
  EXPECT_THROW(predictions_of(model, at::zeros({1, 13}, at::kLong), 1), Error);
}

}  // namespace
}  // namespace cresco::evals
