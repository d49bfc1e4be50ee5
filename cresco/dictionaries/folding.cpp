#include "cresco/dictionaries/folding.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

at::Tensor in_double(const at::Tensor& t) { return t.to(at::kDouble); }
at::Tensor in_float(const at::Tensor& t) { return t.to(at::kFloat).contiguous(); }

// Pre-activations times c[f], decoder rows by c[f] shorter.
void scale_features(CrosscoderParameters& p, const at::Tensor& c_F) {
  p.encoder_KDF = in_float(in_double(p.encoder_KDF) * c_F);
  p.encoder_bias_KF = in_float(in_double(p.encoder_bias_KF) * c_F);
  p.decoder_KFD = in_float(in_double(p.decoder_KFD) / c_F.unsqueeze(-1));
}

// The norms of the one head's decoder rows; rows of zeros are replaced by the first unit vector,
// and their encoder by zeros.
at::Tensor norms_without_zeros(CrosscoderParameters& p) {
  at::Tensor norm_F = at::linalg_vector_norm(in_double(p.decoder_KFD[0]), 2, {-1});
  const at::Tensor zero_F = norm_F == 0;
  if (zero_F.any().item<bool>()) {
    const auto without = [&](const at::Tensor& t) { return t.masked_fill(zero_F, 0); };
    p.encoder_KDF = without(p.encoder_KDF);
    p.encoder_bias_KF = without(p.encoder_bias_KF);
    if (p.gate_bias_F.defined()) p.gate_bias_F = without(p.gate_bias_F);
    p.decoder_KFD = p.decoder_KFD.clone();
    p.decoder_KFD[0].select(1, 0).masked_fill_(zero_F, 1);
    norm_F = norm_F.masked_fill(zero_F, 1);
  }
  return norm_F;
}

}  // namespace

void check_scales(const Dictionary& dictionary, const std::vector<SnapshotStatistics>& statistics) {
  if (dictionary.activation.kind != ActivationKind::JumpRelu) return;
  for (std::size_t k = 1; k < statistics.size(); ++k)
    require(
        statistics[k].scale == statistics[0].scale,
        "{}: the rows of steps {} and {} are divided by {} and {}: heads that share a threshold "
        "cannot take that up, rows have to be preprocessed outside",
        dictionary.name, dictionary.steps[0], dictionary.steps[k], statistics[0].scale,
        statistics[k].scale);
}

Dictionary fold_preprocess(Dictionary dictionary,
                           const std::vector<SnapshotStatistics>& statistics) {
  CrosscoderParameters& p = dictionary.parameters;
  const std::int64_t K = p.num_heads();
  require(static_cast<std::int64_t>(statistics.size()) == K,
          "{} snapshots have statistics, the dictionary has {} heads", statistics.size(), K);
  check_scales(dictionary, statistics);
  std::vector<at::Tensor> encoder, encoder_bias, decoder, decoder_bias;
  for (std::int64_t k = 0; k < K; ++k) {
    const SnapshotStatistics& s = statistics[static_cast<std::size_t>(k)];
    const at::Tensor mean_D = s.mean_D.defined()
                                  ? in_double(s.mean_D)
                                  : at::zeros({p.width()}, at::TensorOptions(at::kDouble));
    encoder.push_back(in_double(p.encoder_KDF[k]) / s.scale);
    encoder_bias.push_back(in_double(p.encoder_bias_KF[k]) - at::matmul(mean_D, encoder.back()));
    decoder.push_back(in_double(p.decoder_KFD[k]) * s.scale);
    decoder_bias.push_back(in_double(p.decoder_bias_KD[k]) * s.scale + mean_D);
  }
  p.encoder_KDF = in_float(at::stack(encoder));
  p.encoder_bias_KF = in_float(at::stack(encoder_bias));
  p.decoder_KFD = in_float(at::stack(decoder));
  p.decoder_bias_KD = in_float(at::stack(decoder_bias));
  if (dictionary.activation.kind == ActivationKind::JumpRelu)
    p.log_threshold_F = in_float(in_double(p.log_threshold_F) + std::log(statistics[0].scale));
  dictionary.training.input_preprocess = "none";
  if (!dictionary.training_record.empty()) dictionary.training_record["input_preprocess"] = "none";
  return dictionary;
}

Dictionary fold_decoder_norms(Dictionary dictionary) {
  CrosscoderParameters& p = dictionary.parameters;
  require(p.num_heads() == 1, "{}: has {} heads: the decoder norms of one are folded",
          dictionary.name, p.num_heads());
  ActivationKind& kind = dictionary.activation.kind;
  if (kind == ActivationKind::TopK || kind == ActivationKind::BatchTopK) return dictionary;
  const at::Tensor norm_F = norms_without_zeros(p);
  scale_features(p, norm_F);
  if (kind == ActivationKind::SharedJumpRelu)
    p.log_threshold_F = in_float(in_double(p.log_threshold_F) + norm_F.log());
  if (kind == ActivationKind::JumpRelu) kind = ActivationKind::SharedJumpRelu;
  if (kind == ActivationKind::Gated) {
    p.gate_bias_F = in_float(in_double(p.gate_bias_F) * norm_F);
    p.magnitude_bias_F = in_float(in_double(p.magnitude_bias_F) * norm_F);
  }
  return dictionary;
}

Dictionary fold_norms_into_choice(Dictionary dictionary) {
  scale_features(dictionary.parameters, norms_without_zeros(dictionary.parameters));
  return dictionary;
}

}  // namespace cresco::dictionaries
