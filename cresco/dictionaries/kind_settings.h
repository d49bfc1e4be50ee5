// Which settings a kind of dictionary has: what is given for another kind would be recorded with it
// and change nothing.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace cresco::dictionaries {

// A setting that some kinds have; those that stand in no list are everybody's.
struct SettingOfKinds {
  const char* setting;
  std::vector<std::string> kinds;
};
// Of the kinds of `train` (training.h), and of the classes of `train-sae` (matrix_sae.h).
const std::vector<SettingOfKinds>& settings_of_kinds();
const std::vector<SettingOfKinds>& settings_of_classes();

// UsageError that names the setting for one of `given` that this kind does not have. `what` is
// "kind" or "class".
void require_used(const std::vector<SettingOfKinds>& settings, const std::string& what,
                  const std::string& kind, const std::set<std::string>& given);

}  // namespace cresco::dictionaries
