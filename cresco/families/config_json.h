// What the families' readers of config.json and of tensor names have in common.
#pragma once

#include "cresco/base/fields.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace cresco::families {

// Error when the config is no object, names another type, or lacks one of `needed`.
void check_config(const Json& config, const std::string& model_type,
                  const std::vector<const char*>& needed, const std::string& where);

// Takes every listed field that the config has; those that are absent or null keep their values,
// other keys of the config are left alone. Error for a value of another type.
void take_fields(const Fields& fields, const Json& config, const std::string& where);

// Takes the rotary base and the rotated share of a head, which stand beside the other fields
// (`rope_theta`, `partial_rotary_factor`) or, in newer files, inside `rope_scaling` or
// `rope_parameters`. Error for a rotary scaling other than "default".
void take_rope(const Json& config, const std::string& where, double& theta, double& share);

// Sizes that multiply without overflow, and few enough layers and heads to list.
inline constexpr std::int64_t kMaxRows = std::int64_t{1} << 31;   // vocabulary, positions
inline constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;  // width, all heads together
inline constexpr std::int64_t kMaxInner = std::int64_t{1} << 22;  // inside the MLP
void check_size(const char* field, std::int64_t size, std::int64_t limit, const std::string& where);
void check_layers(const char* layers_field, std::int64_t layers, std::int64_t heads,
                  const std::string& where);
void check_epsilon(const char* field, double epsilon, const std::string& where);
void check_gelu(const char* field, const std::string& name, const std::string& where);

// The name without what torch.compile ("_orig_mod.") and data-parallel wrappers ("module.") put in
// front of it.
std::string without_wrappers(const std::string& name);

}  // namespace cresco::families
