#include "cresco/optim/optimizer.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/optim/algorithms.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace cresco::optim {
namespace {

// Eight sums side by side, so that additions don't wait for each other; squares of floats are exact
// in double. Memory bounds it: vectors by hand took the same time.
template <class Number>
double sum_of_squares(const Number* x, std::int64_t count) {
  constexpr std::int64_t kLanes = 8;
  double sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const auto number = static_cast<double>(x[i + lane]);
      sums[lane] += number * number;
    }
  for (; i < count; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, std::vector<tensor::NamedTensor> parameters,
                     dist::Ranks& ranks)
    : config_(config), ranks_(ranks) {
  check(config_);
  check_rules(config_, parameters);
  std::vector<ShardItem> items;
  for (const auto& [name, parameter] : parameters) {
    TensorSettings settings = settings_of(config_, name, parameter);
    if (settings.frozen) continue;
    TORCH_CHECK(parameter.is_contiguous(), "'", name, "' is not contiguous");
    const auto group = std::find(group_names_.begin(), group_names_.end(), settings.group);
    const auto group_index = static_cast<std::size_t>(group - group_names_.begin());
    if (group == group_names_.end()) group_names_.push_back(settings.group);
    items.push_back({.numel = parameter.numel(),
                     .state_numbers =
                         static_cast<std::int64_t>(state_names(config_, settings.algorithm).size()),
                     .whole = settings.algorithm == "muon"});
    trained_.push_back({name, parameter.detach(), parameter, std::move(settings), group_index});
  }
  slices_ = share_out(items, ranks_.size());

  struct Key {
    const TensorSettings* settings;
    Algorithm* algorithm;
  };
  std::vector<Key> keys;
  for (std::size_t s = 0; s < slices_.size(); ++s) {
    const Slice& slice = slices_[s];
    const Trained& t = trained_[slice.item];
    Piece piece{.slice = s, .numbers = t.numbers};
    if (slice.end - slice.begin < t.numbers.numel())
      piece.numbers = t.numbers.view(-1).narrow(0, slice.begin, slice.end - slice.begin);
    if (ranks_.size() > 1) shared_.push_back({piece.numbers, slice.owner});
    if (slice.owner != ranks_.rank()) continue;
    for (std::size_t n = 0; n < state_names(config_, t.settings.algorithm).size(); ++n)
      piece.state.push_back(at::zeros_like(piece.numbers));
    auto key = std::find_if(keys.begin(), keys.end(), [&](const Key& k) {
      return k.settings->algorithm == t.settings.algorithm && k.settings->lr == t.settings.lr &&
             k.settings->weight_decay == t.settings.weight_decay &&
             k.settings->inputs_first == t.settings.inputs_first;
    });
    if (key == keys.end()) {
      algorithms_.push_back(make_algorithm(config_, t.settings));
      key = keys.insert(keys.end(), {&t.settings, algorithms_.back().get()});
    }
    key->algorithm->add(std::move(piece));
  }
}

Optimizer::~Optimizer() = default;

at::Tensor Optimizer::gradient(std::size_t i) const {
  const Trained& t = trained_[i];
  const at::Tensor& gradient = t.parameter.grad();
  require(gradient.defined(), "'{}' has no gradient: the loss does not depend on it; freeze it",
          t.name);
  TORCH_CHECK(
      gradient.scalar_type() == t.numbers.scalar_type() && gradient.sizes() == t.numbers.sizes(),
      "the gradient of '", t.name, "' is of another type or shape than the parameter");
  return gradient.contiguous();
}

// By trained tensor. On a CPU each rank sums the blocks of its slices, and a block's sum has one
// rank's number and zeros of the others; on a GPU each sums everything, which takes less time than
// a message.
std::vector<double> Optimizer::squared_norms(const std::vector<at::Tensor>& gradients) const {
  std::vector<double> squared(trained_.size());
  if (gradients.empty()) return squared;
  if (!gradients.front().device().is_cpu()) {
    const at::Tensor norms =
        at::stack(at::_foreach_norm(gradients)).to(at::kCPU, at::kDouble).contiguous();
    for (std::size_t i = 0; i < squared.size(); ++i)
      squared[i] = std::pow(norms.const_data_ptr<double>()[i], 2);
    return squared;
  }

  std::vector<std::int64_t> first_block{0};
  for (const at::Tensor& g : gradients)
    first_block.push_back(first_block.back() + (g.numel() + kBlock - 1) / kBlock);
  const at::Tensor sums = at::zeros({first_block.back()}, at::kDouble);
  double* const sum = sums.mutable_data_ptr<double>();
  struct Block {
    std::size_t tensor;
    std::int64_t begin;
  };
  std::vector<Block> own;
  for (const Slice& slice : slices_)
    if (slice.owner == ranks_.rank())
      for (std::int64_t begin = slice.begin; begin < slice.end; begin += kBlock)
        own.push_back({slice.item, begin});
  at::parallel_for(0, static_cast<std::int64_t>(own.size()), 4,
                   [&](std::int64_t from, std::int64_t to) {
                     for (std::int64_t b = from; b < to; ++b) {
                       const auto [i, begin] = own[static_cast<std::size_t>(b)];
                       const at::Tensor& g = gradients[i];
                       const std::int64_t count = std::min(kBlock, g.numel() - begin);
                       AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "gradient norm", [&] {
                         sum[first_block[i] + begin / kBlock] =
                             sum_of_squares(g.const_data_ptr<scalar_t>() + begin, count);
                       });
                     }
                   });
  ranks_.sum(sums);
  for (std::size_t i = 0; i < squared.size(); ++i)
    for (std::int64_t b = first_block[i]; b < first_block[i + 1]; ++b) squared[i] += sum[b];
  return squared;
}

StepResult Optimizer::step(double lr_factor, double gradient_scale) {
  const torch::autograd::AutoGradMode no_grad(false);
  std::vector<at::Tensor> gradients;
  for (std::size_t i = 0; i < trained_.size(); ++i) gradients.push_back(gradient(i));

  StepResult result;
  const std::vector<double> squared = squared_norms(gradients);
  std::vector<double> by_group(group_names_.size());
  double all = 0;
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    all += squared[i];
    by_group[trained_[i].group] += squared[i];
    if (!std::isfinite(squared[i]) && result.is_finite()) result.not_finite = trained_[i].name;
  }
  result.grad_norm = std::sqrt(all) / gradient_scale;
  for (std::size_t g = 0; g < by_group.size(); ++g)
    result.group_norms.emplace_back(group_names_[g], std::sqrt(by_group[g]) / gradient_scale);
  if (!result.is_finite()) return result;

  // The factor of PyTorch's clip_grad_norm_.
  const double clip =
      config_.grad_clip > 0 ? std::min(1.0, config_.grad_clip / (result.grad_norm + 1e-6)) : 1.0;
  for (const auto& algorithm : algorithms_) {
    std::vector<at::Tensor> of_pieces;
    for (const Piece& piece : algorithm->pieces()) {
      const Slice& slice = slices_[piece.slice];
      const at::Tensor& g = gradients[slice.item];
      of_pieces.push_back(slice.end - slice.begin == g.numel()
                              ? g
                              : g.view(-1).narrow(0, slice.begin, slice.end - slice.begin));
    }
    algorithm->step(of_pieces, clip / gradient_scale, lr_factor, num_steps_);
  }
  if (ranks_.size() > 1) ranks_.broadcast(shared_);
  ++num_steps_;
  return result;
}

std::vector<tensor::NamedTensor> Optimizer::state() const {
  const torch::autograd::AutoGradMode no_grad(false);
  std::vector<const Piece*> own(slices_.size());
  for (const auto& algorithm : algorithms_)
    for (const Piece& piece : algorithm->pieces()) own[piece.slice] = &piece;

  std::vector<tensor::NamedTensor> all;
  std::size_t s = 0;
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    const Trained& t = trained_[i];
    const std::size_t begin = s;
    while (s < slices_.size() && slices_[s].item == i) ++s;
    const std::vector<std::string> names = state_names(config_, t.settings.algorithm);
    for (std::size_t n = 0; n < names.size(); ++n) {
      if (ranks_.size() == 1) {
        all.emplace_back(t.name + names[n], own[begin]->state[n]);
        continue;
      }
      // One tensor at a time, so that no other rank needs room for more.
      const at::Tensor whole = at::empty_like(t.numbers);
      std::vector<dist::OwnedTensor> parts;
      for (std::size_t part = begin; part < s; ++part) {
        const Slice& slice = slices_[part];
        parts.push_back(
            {whole.view(-1).narrow(0, slice.begin, slice.end - slice.begin), slice.owner});
        if (own[part] != nullptr) parts.back().tensor.copy_(own[part]->state[n].view(-1));
      }
      ranks_.broadcast(parts);
      if (ranks_.first()) all.emplace_back(t.name + names[n], whole.cpu());
    }
  }
  return all;
}

Json Optimizer::numbers() const {
  Json began_at = Json::object();
  for (const Trained& t : trained_)
    if (t.began_at > 0) began_at[t.name] = t.began_at;
  return {{"num_steps", num_steps_}, {"began_at", began_at}};
}

std::vector<std::string> Optimizer::load(const formats::SafetensorsFile& file, const Json& numbers,
                                         const std::string& where, bool may_begin) {
  const torch::autograd::AutoGradMode no_grad(false);
  const std::int64_t num_steps = get_int(numbers, "num_steps", where);
  require(num_steps >= 0, "{}: 'num_steps' is {}", where, num_steps);
  const auto began_at = numbers.find("began_at");
  const bool has_began_at = began_at != numbers.end() && began_at->is_object();

  // What is there, and whether it fits; the same on every rank, before anything is changed.
  std::vector<std::string> afresh;
  std::vector<std::int64_t> begins;
  std::vector<bool> is_afresh;
  for (const Trained& t : trained_) {
    bool is_missing = false;
    for (const std::string& name : state_names(config_, t.settings.algorithm)) {
      const formats::StoredTensor* stored = file.find(t.name + name);
      if (stored == nullptr) {
        require(may_begin,
                "{}: has no '{}{}': '{}' was frozen or another optimizer's when it was written",
                file.path().string(), t.name, name, t.name);
        is_missing = true;
      } else {
        require(at::IntArrayRef(stored->shape) == t.numbers.sizes(),
                "{}: '{}{}' has shape {}, expected {}", file.path().string(), t.name, name,
                formats::shape_text(stored->shape), formats::shape_text(t.numbers.sizes().vec()));
      }
    }
    std::int64_t begin = is_missing ? num_steps : 0;
    if (!is_missing && has_began_at && began_at->contains(t.name))
      begin = get_int(*began_at, t.name.c_str(), where);
    require(begin >= 0 && begin <= num_steps, "{}: 'began_at' of '{}' is {}, after {} steps", where,
            t.name, begin, num_steps);
    if (is_missing) afresh.push_back(t.name);
    is_afresh.push_back(is_missing);
    begins.push_back(begin);
  }

  num_steps_ = num_steps;
  for (std::size_t i = 0; i < trained_.size(); ++i) trained_[i].began_at = begins[i];
  for (const auto& algorithm : algorithms_)
    for (std::size_t p = 0; p < algorithm->pieces().size(); ++p) {
      const Piece& piece = algorithm->pieces()[p];
      const Slice& slice = slices_[piece.slice];
      const Trained& t = trained_[slice.item];
      algorithm->set_num_updates(p, num_steps - t.began_at);
      const std::vector<std::string> names = state_names(config_, t.settings.algorithm);
      for (std::size_t n = 0; n < names.size(); ++n) {
        if (is_afresh[slice.item]) {
          piece.state[n].zero_();
          continue;
        }
        const at::Tensor stored = tensor::to_tensor(file.tensor(t.name + names[n]));
        piece.state[n].view(-1).copy_(
            stored.view(-1).narrow(0, slice.begin, slice.end - slice.begin));
      }
    }
  return afresh;
}

std::int64_t Optimizer::state_bytes() const {
  std::size_t bytes = 0;
  for (const auto& algorithm : algorithms_)
    for (const Piece& piece : algorithm->pieces())
      for (const at::Tensor& state : piece.state) bytes += state.nbytes();
  return static_cast<std::int64_t>(bytes);
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config,
                                          std::vector<tensor::NamedTensor> parameters,
                                          dist::Ranks& ranks) {
  return std::make_unique<Optimizer>(config, std::move(parameters), ranks);
}

}  // namespace cresco::optim
