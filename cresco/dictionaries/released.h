// A dictionary on disk, in the layout of the released crosscoders: <name>.safetensors with its
// float32 tensors, <name>.config.json with what made it, <name>.md for people. See
// docs/formats/dictionary.md.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/dictionaries/crosscoder.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/trajectories/stack.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace cresco::dictionaries {

struct Dictionary {
  std::string name;                 // the files' stem
  std::string kind;                 // "cross-snapshot", "per-snapshot", ...; "": by the heads
  std::string model_name, matrix;   // matrix is "" when the file does not say
  std::vector<std::int64_t> steps;  // one per head, in their order
  std::int64_t seed = 0;
  bool has_seed = true;  // false: the file does not say
  CrosscoderConfig training;
  // What stands in place of `training` in the file and on the card when not all of that is known,
  // as of a dictionary of another library, or when others were the settings. Reading takes from it
  // what has the name of a field of `training`; the others keep their defaults there.
  Json training_record = Json::object();
  Activation activation;
  CrosscoderParameters parameters;
  Json quality = Json::object();  // explained_variance, reconstruction_mse, mean_l0, dead_rate, ...
  Json provenance = Json::object();  // what made it
  // One per head, of a file that keeps them (a training's .pt); the release does not.
  std::vector<SnapshotStatistics> statistics;
  std::vector<std::string> notes;  // what reading had to assume, a line each

  std::vector<Path> files(const Path& folder) const;
  Crosscoder crosscoder() const { return Crosscoder(parameters, activation); }
};

// The record of a dictionary of whose training only its size and preprocessing are known.
Json size_record(const CrosscoderConfig& training);

// Each file atomically, the tensors first.
void write_dictionary(const Path& folder, const Dictionary& dictionary);

// The .safetensors files of a folder that have their .config.json, in order of their names; hidden
// files (macOS leaves "._x" beside each "x") are none.
std::vector<Path> dictionary_files(const Path& folder);

// `path` is a .safetensors file, a .pt file of a training (docs/formats/dictionary.md), or a folder
// that holds exactly one .safetensors file with its .config.json.
Path dictionary_file(const Path& path);

// What a file may not say of its dictionary. Where it is given, it goes before what the file says.
struct DictionaryLabels {
  std::string model_name, matrix;
  std::vector<std::int64_t> steps;
};

// Error for tensors that are missing, do not fit each other or the config, or hold numbers that are
// not finite, for values of another type than they should have or out of range, and for kinds of
// dictionary that this program does not compute.
Dictionary read_dictionary(const Path& path, const DictionaryLabels& labels = {});

// The same from headers alone: the parameters have shapes and no numbers (LibTorch's meta device).
Dictionary describe_dictionary(const Path& path);

// <stem>.metrics_recomputed.json beside a dictionary, or null.
Json recomputed_metrics(const Path& dictionary_file);

// What a dictionary's config says of it, without its tensors: `quality` and `provenance`.
struct Record {
  Json quality, provenance;
};
Record read_record(const Path& path);

// A dictionary of which only the decoder is looked at, and of that only the rows that are asked for
// are in memory: the 24,576 features of 32 snapshots of width 768 have 2.4 GB of it.
class StoredDecoder {
 public:
  // Reads the decoder once, for its norms. Errors as read_dictionary, but for the other tensors.
  explicit StoredDecoder(const Path& path, Progress& progress = no_progress());

  const Path& path() const { return path_; }
  const Dictionary& dictionary() const { return dictionary_; }  // without its parameters
  std::int64_t num_heads() const { return num_heads_; }
  std::int64_t num_features() const { return num_features_; }
  std::int64_t width() const { return width_; }

  const at::Tensor& norm_FK() const { return norm_FK_; }  // of the rows, in double

  // float32 (count, heads, width) of the features from `begin` on. Besides the result one head of
  // it is in memory.
  at::Tensor rows_FKD(std::int64_t begin, std::int64_t count,
                      const std::vector<std::int64_t>& heads) const;

 private:
  Path path_;
  Dictionary dictionary_;
  formats::StoredTensor decoder_;  // with the strides of its three axes
  std::int64_t num_heads_ = 0, num_features_ = 0, width_ = 0;
  at::Tensor norm_FK_;
};

// The snapshots of a stack that the dictionary's heads stand for, in their order. Error when the
// widths differ or a step is missing.
std::vector<std::int64_t> heads_in(const trajectories::Stack& stack, const Dictionary& dictionary);

}  // namespace cresco::dictionaries
