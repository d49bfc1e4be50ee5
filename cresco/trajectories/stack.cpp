#include "cresco/trajectories/stack.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace cresco::trajectories {
namespace {

std::string tensor_name(std::int64_t step) { return fmt::format("step_{}", step); }

std::vector<formats::TensorView> layout(const std::vector<std::int64_t>& steps,
                                        formats::DType dtype, std::int64_t rows,
                                        std::int64_t width) {
  std::vector<formats::TensorView> tensors;
  for (const std::int64_t step : steps)
    tensors.push_back({tensor_name(step), dtype, {rows, width}, {}});
  return tensors;
}

formats::Metadata metadata_of(const StackInfo& info,
                              const std::vector<std::string>& source_hashes) {
  return {{"format", "cresco-stack"},
          {"version", std::to_string(kStackVersion)},
          {"model", info.model},
          {"matrix", info.matrix},
          {"steps", fmt::format("{}", fmt::join(info.steps, ","))},
          {"source_sha256", join(source_hashes, ",")}};
}

}  // namespace

Stack::Stack(const Path& path) : file_(path) {
  const std::string where = path.string();
  const auto& metadata = file_.metadata();
  const auto get = [&](const char* key) {
    const auto found = metadata.find(key);
    require(found != metadata.end(), "{}: is not a stack: its metadata lacks '{}'", where, key);
    return found->second;
  };
  require(get("format") == "cresco-stack", "{}: is not a stack: its format is '{}'", where,
          escape_for_terminal(get("format")));
  require(parse_int(get("version"), where) == kStackVersion,
          "{}: stack version {}, this program reads {}", where, escape_for_terminal(get("version")),
          kStackVersion);
  info_.model = get("model");
  info_.matrix = get("matrix");
  for (const std::string& step : split(get("steps"), ','))
    info_.steps.push_back(parse_int(step, where));
  require(!info_.steps.empty(), "{}: names no steps", where);
  require(std::is_sorted(info_.steps.begin(), info_.steps.end(), std::less_equal<>()),
          "{}: its steps are not in ascending order", where);
  require(info_.steps.size() == file_.tensors().size(), "{}: names {} steps and holds {} tensors",
          where, info_.steps.size(), file_.tensors().size());
  const formats::StoredTensor& first = file_.tensor(tensor_name(info_.steps[0]));
  require(first.shape.size() == 2 && first.shape[0] > 0 && first.shape[1] > 0,
          "{}: tensor '{}' has shape {}, expected a matrix", where, first.name,
          formats::shape_text(first.shape));
  rows_ = first.shape[0];
  width_ = first.shape[1];
  dtype_ = first.dtype;
  for (const std::int64_t step : info_.steps) {
    const formats::StoredTensor& tensor = file_.tensor(tensor_name(step));
    require(tensor.shape == first.shape && tensor.dtype == first.dtype,
            "{}: tensor '{}' is {} of {}, but '{}' is {} of {}", where, tensor.name,
            formats::shape_text(tensor.shape), formats::name_of(tensor.dtype), first.name,
            formats::shape_text(first.shape), formats::name_of(first.dtype));
  }
}

at::Tensor Stack::at(std::int64_t k) const {
  const std::int64_t step = info_.steps.at(static_cast<std::size_t>(k));
  const at::Tensor matrix_VD = tensor::to_tensor(file_.tensor(tensor_name(step))).to(at::kFloat);
  const at::Tensor finite_V = matrix_VD.isfinite().all(1);
  if (!finite_V.all().item<bool>())
    fail("{}: step {}: row {} holds a number that is not finite", path().string(), step,
         finite_V.logical_not().to(at::kInt).argmax().item<std::int64_t>());
  return matrix_VD;
}

std::vector<std::int64_t> Stack::indices(const std::vector<std::int64_t>& steps) const {
  std::vector<std::int64_t> found;
  for (const std::int64_t step : steps) {
    const auto at = std::find(info_.steps.begin(), info_.steps.end(), step);
    require(at != info_.steps.end(), "{}: has no step {}; it has {}", path().string(), step,
            list_steps(info_.steps));
    found.push_back(at - info_.steps.begin());
  }
  return found;
}

StackWriter::StackWriter(const Path& path, const StackInfo& info, formats::DType dtype,
                         std::int64_t rows, std::int64_t width,
                         const std::vector<std::string>& source_hashes)
    : writer_(path, layout(info.steps, dtype, rows, width), metadata_of(info, source_hashes)) {}

std::vector<std::int64_t> StackWriter::order() const {
  std::vector<std::int64_t> steps;
  for (const auto& tensor : writer_.tensors())
    steps.push_back(parse_int(std::string_view(tensor.name).substr(5), tensor.name));
  return steps;
}

void StackWriter::write(const at::Tensor& matrix_VD) {
  const at::Tensor contiguous = matrix_VD.contiguous();
  writer_.write(tensor::view_of("", contiguous).bytes);
}

void StackWriter::commit() { writer_.commit(); }

}  // namespace cresco::trajectories
