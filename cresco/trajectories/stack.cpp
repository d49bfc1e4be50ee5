#include "cresco/trajectories/stack.h"

#include "cresco/base/hash.h"
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

formats::Metadata metadata_of(const StackInfo& info,
                              const std::vector<std::string>& source_hashes) {
  formats::Metadata metadata{{"format", kStackFormat},
                             {"version", std::to_string(kStackVersion)},
                             {"model", info.model},
                             {"matrix", info.matrix},
                             {"steps", fmt::format("{}", fmt::join(info.steps, ","))},
                             {"source_sha256", join(source_hashes, ",")}};
  if (!info.note.empty()) metadata["note"] = info.note;
  return metadata;
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
  require(get("format") == kStackFormat, "{}: is not a stack: its format is '{}'", where,
          escape_for_terminal(get("format")));
  require(parse_int(get("version"), where + ": metadata 'version'") == kStackVersion,
          "{}: stack version {}, this program reads {}", where, escape_for_terminal(get("version")),
          kStackVersion);
  info_.model = get("model");
  info_.matrix = get("matrix");
  if (const auto note = metadata.find("note"); note != metadata.end()) info_.note = note->second;
  for (const std::string& step : split(get("steps"), ','))
    info_.steps.push_back(parse_int(step, where + ": metadata 'steps'"));
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
  std::map<std::string_view, const formats::StoredTensor*> by_name;
  for (const formats::StoredTensor& tensor : file_.tensors()) by_name[tensor.name] = &tensor;
  for (const std::int64_t step : info_.steps) {
    const auto found = by_name.find(tensor_name(step));
    require(found != by_name.end(), "{}: has no tensor '{}'", where, tensor_name(step));
    const formats::StoredTensor& tensor = *found->second;
    require(tensor.shape == first.shape && tensor.dtype == first.dtype,
            "{}: tensor '{}' is {} of {}, but '{}' is {} of {}", where, tensor.name,
            formats::shape_text(tensor.shape), formats::name_of(tensor.dtype), first.name,
            formats::shape_text(first.shape), formats::name_of(first.dtype));
  }
}

const formats::StoredTensor& Stack::stored(std::int64_t k) const {
  return file_.tensor(tensor_name(info_.steps.at(static_cast<std::size_t>(k))));
}

at::Tensor Stack::rows(std::int64_t k, std::int64_t first, std::int64_t count) const {
  require(first >= 0 && count >= 0 && first <= rows_ - count,
          "{}: rows {} to {} were asked for, it has {}", path().string(), first, first + count,
          rows_);
  formats::StoredTensor part = stored(k);  // rows of a safetensors file lie one after the other
  part.offset += part.num_bytes() / rows_ * first;
  part.shape[0] = count;
  const at::Tensor rows_VD = tensor::to_tensor(part).to(at::kFloat);
  if (!tensor::all_finite(rows_VD))
    fail(
        "{}: step {}: row {} holds a number that is not finite", path().string(),
        info_.steps.at(static_cast<std::size_t>(k)),
        first + rows_VD.isfinite().all(1).logical_not().to(at::kInt).argmax().item<std::int64_t>());
  return rows_VD;
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
                         std::int64_t rows, std::int64_t width, const Json& source)
    : path_(path),
      part_(path.string() + ".part"),
      journal_(path.string() + ".part.json"),
      info_(info),
      dtype_(dtype),
      rows_(rows),
      width_(width),
      source_({{"source", source},
               {"model", info.model},
               {"matrix", info.matrix},
               {"steps", info.steps},
               {"note", info.note},
               {"dtype", formats::name_of(dtype)},
               {"shape", {rows, width}}}) {
  const formats::SafetensorsLayout whole = layout();
  for (std::size_t i = 0; i < whole.tensors.size(); ++i)
    offset_of_[parse_int(std::string_view(whole.tensors[i].name).substr(5), "step")] =
        whole.offsets[i];
  std::error_code error;
  if (std::filesystem::exists(journal_) &&
      static_cast<std::int64_t>(std::filesystem::file_size(part_, error)) == whole.file_bytes) {
    hashes_ = steps_of_journal();
  }
  // A journal must never speak of bytes that are gone.
  if (hashes_.empty()) std::filesystem::remove(journal_);
  OutputFile(part_, /*keep=*/!hashes_.empty()).resize(whole.file_bytes);
}

// The whole steps by the journal of a writer that was stopped; none when it is of another
// extraction, or damaged.
std::map<std::int64_t, std::string> StackWriter::steps_of_journal() const {
  std::map<std::int64_t, std::string> hashes;
  try {
    const Json journal = read_json_file(journal_);
    if (!journal.is_object() || !journal.contains("source") || journal["source"] != source_ ||
        !journal.contains("done") || !journal["done"].is_object())
      return {};
    for (const auto& [step, hash] : journal["done"].items()) {
      const std::int64_t number = parse_int(step, "step");
      if (!offset_of_.contains(number) || !hash.is_string() || hash.get<std::string>().size() != 64)
        return {};
      hashes[number] = hash.get<std::string>();
    }
  } catch (const Error&) {
    return {};
  }
  return hashes;
}

formats::SafetensorsLayout StackWriter::layout() const {
  std::vector<formats::TensorView> tensors;
  std::vector<std::string> hashes;
  for (const std::int64_t step : info_.steps) {
    tensors.push_back({tensor_name(step), dtype_, {rows_, width_}, {}});
    const auto found = hashes_.find(step);
    // Of the same length as a hash, so that the data does not move when the hashes are known.
    hashes.push_back(found == hashes_.end() ? std::string(64, '0') : found->second);
  }
  return formats::lay_out_safetensors(std::move(tensors), metadata_of(info_, hashes),
                                      path_.string());
}

void StackWriter::write_journal() const {
  Json done = Json::object();
  for (const auto& [step, hash] : hashes_) done[std::to_string(step)] = hash;
  write_json_file(journal_, {{"source", source_}, {"done", done}});
}

void StackWriter::begin(std::int64_t step) {
  require(offset_of_.contains(step), "{}: step {} is none of its steps {}", path_.string(), step,
          list_steps(info_.steps));
  // Open only while a matrix is written: a pattern may stand for a thousand stacks.
  file_ = OutputFile(part_, /*keep=*/true);
  step_ = step;
  at_ = offset_of_.at(step);
  end_ = at_ + *formats::num_bytes(dtype_, std::vector{rows_, width_});
}

void StackWriter::write(Bytes piece) {
  require(static_cast<std::int64_t>(piece.size()) <= end_ - at_,
          "{}: step {} was given {} bytes too many for shape {}", path_.string(), step_,
          static_cast<std::int64_t>(piece.size()) - (end_ - at_),
          formats::shape_text(std::vector{rows_, width_}));
  file_.write_at(at_, piece);
  at_ += static_cast<std::int64_t>(piece.size());
}

void StackWriter::end(const std::string& source_sha256) {
  require(at_ == end_, "{}: step {} lacks {} bytes", path_.string(), step_, end_ - at_);
  file_.flush_to_disk();
  file_ = OutputFile();
  hashes_[step_] = source_sha256;
  write_journal();
}

void StackWriter::write(std::int64_t step, const at::Tensor& matrix_VD) {
  const at::Tensor contiguous = matrix_VD.contiguous();
  const Bytes bytes = tensor::view_of("", contiguous).bytes;
  begin(step);
  write(bytes);
  end(sha256_hex(bytes));
}

void StackWriter::commit() {
  require(hashes_.size() == info_.steps.size(), "{}: {} of {} steps were written", path_.string(),
          hashes_.size(), info_.steps.size());
  OutputFile file(part_, /*keep=*/true);
  file.write_at(0, as_bytes(layout().header));
  file.commit_as(path_);
  std::filesystem::remove(journal_);
}

void write_stack(const Path& path, const StackInfo& info, const std::vector<at::Tensor>& matrices) {
  StackWriter writer(path, info, tensor::dtype_of(matrices[0]), matrices[0].size(0),
                     matrices[0].size(1));
  for (std::size_t k = 0; k < matrices.size(); ++k) writer.write(info.steps[k], matrices[k]);
  writer.commit();
}

}  // namespace cresco::trajectories
