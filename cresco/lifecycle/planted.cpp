#include "cresco/lifecycle/planted.h"

#include <ATen/ATen.h>

namespace cresco::lifecycle {

artifacts::Table planted_table(const dictionaries::Crosscoder& crosscoder, const at::Tensor& x_VKD,
                               std::int64_t k, const std::vector<PlantedFeature>& planted) {
  constexpr double kFound = 0.8;
  artifacts::Table table({"planted", "num_tokens", "feature", "score", "found"});
  // Only rows of some planted feature count: the language says nothing of the others.
  std::vector<std::int64_t> rows, owner;
  for (std::size_t i = 0; i < planted.size(); ++i)
    for (const std::int64_t row : planted[i].rows) {
      rows.push_back(row);
      owner.push_back(static_cast<std::int64_t>(i));
    }
  if (rows.empty()) return table;
  const at::Tensor x_RKD = x_VKD.index_select(0, at::tensor(rows, at::kLong));
  const at::Tensor fires_RF = crosscoder.open(crosscoder.pre_activation(x_RKD), k).to(at::kDouble);
  const at::Tensor owner_R = at::tensor(owner, at::kLong);
  const at::Tensor fired_F = fires_RF.sum(0);
  for (std::size_t i = 0; i < planted.size(); ++i) {
    const at::Tensor mine_R = (owner_R == static_cast<std::int64_t>(i)).to(at::kDouble);
    const double size = mine_R.sum().item<double>();
    if (size == 0) continue;  // no word of it is one token
    const at::Tensor score_F = 2 * mine_R.matmul(fires_RF) / (fired_F + size);
    const double score = score_F.max().item<double>();
    table.add(planted[i].name, static_cast<std::int64_t>(size),
              score_F.argmax().item<std::int64_t>(), score, score >= kFound ? 1 : 0);
  }
  return table;
}

}  // namespace cresco::lifecycle
