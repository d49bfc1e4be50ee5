// Dictionaries as PyTorch trainings left them, before there was the release: one .pt file with
// state_dict, config, steps, model_name, training, quality, preprocess_stats, provenance. Nothing
// in it is executed. See docs/formats/dictionary.md.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/formats/torch_file.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace cresco::dictionaries {

// Whether a file of PyTorch holds a dictionary's tensors.
bool is_legacy_dictionary(const formats::TorchFile& file);

// What the release keeps in <name>.config.json, from wherever in the file it stands: at the top
// (with `model` for model_name), or all of it below `config`, as wrappers have it.
Json legacy_config(const formats::TorchFile& file);
// Below `state_dict`, else at the top.
std::vector<formats::StoredTensor> legacy_tensors(const formats::TorchFile& file);

}  // namespace cresco::dictionaries
