#include "cresco/dictionaries/kind_settings.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/matrix_sae.h"

#include <algorithm>
#include <functional>

namespace cresco::dictionaries {
namespace {

std::vector<std::string> classes_with(const std::function<bool(const MatrixSaeClass&)>& has) {
  std::vector<std::string> names;
  for (const MatrixSaeClass& known : matrix_sae_classes())
    if (has(known)) names.emplace_back(known.name);
  return names;
}

}  // namespace

const std::vector<SettingOfKinds>& settings_of_kinds() {
  const std::vector<std::string> per_head{"crosscoder", "sae"},
      jumprelus{"crosscoder", "sae", "jumprelu"}, topks{"topk", "batchtopk"};
  static const std::vector<SettingOfKinds> all{
      {"l1_coefficient", jumprelus},
      {"frequency_scale", jumprelus},
      {"tanh_stretch_coefficient", jumprelus},
      {"target_l0", jumprelus},
      {"init_threshold", jumprelus},
      {"jumprelu_lr_factor", jumprelus},
      {"l1_warmup_fraction", {"crosscoder", "sae", "jumprelu", "gated"}},
      {"decoder_transpose_init", per_head},
      {"auxk_coefficient", per_head},
      {"auxk_k", per_head},
      {"dead_window_steps", per_head},
      {"k", topks},
      {"gated_l1_coefficient", {"gated"}},
      {"bandwidth", {"jumprelu"}}};
  return all;
}

const std::vector<SettingOfKinds>& settings_of_classes() {
  const auto penalty = classes_with([](const auto&c) { return c.has_penalty(); }),
             fixed = classes_with([](const auto&c) { return !c.has_penalty(); }),
             auxk = classes_with([](const auto&c) { return c.has_auxk(); }),
             nested = classes_with([](const auto&c) { return c.nested; });
  static const std::vector<SettingOfKinds> all{{"k", fixed},
                                               {"k_aux", auxk},
                                               {"auxk_coefficient", auxk},
                                               {"dead_refresh", auxk},
                                               {"matryoshka_levels", nested},
                                               {"target_l0", penalty},
                                               {"init_lambda", penalty},
                                               {"lambda_rate", penalty},
                                               {"min_lambda", penalty},
                                               {"max_lambda", penalty},
                                               {"lambda_warmup", penalty},
                                               {"init_threshold", {"jumprelu"}},
                                               {"bandwidth", {"jumprelu"}}};
  return all;
}

void require_used(const std::vector<SettingOfKinds>& settings, const std::string& what,
                  const std::string& kind, const std::set<std::string>& given) {
  for (const auto& [setting, kinds] : settings)
    require_usage(
        !given.contains(setting) || std::find(kinds.begin(), kinds.end(), kind) != kinds.end(),
        "{} is a setting of {}: {} {} has none", setting, join(kinds, ", "), what, kind);
}

}  // namespace cresco::dictionaries
