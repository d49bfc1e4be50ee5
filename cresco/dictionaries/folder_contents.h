// For tests only: whether two runs left the same.
#pragma once

#include "cresco/base/files.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace cresco::dictionaries::toy {

// Every file below a folder but for manifests, which have times in them, and locks.
inline std::map<std::string, std::string> contents(const Path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string name = std::filesystem::relative(entry.path(), folder).string();
    if (entry.is_regular_file() && !name.ends_with("manifest.json") && !name.ends_with(".lock"))
      all[name] = read_file(entry.path());
  }
  return all;
}

inline void expect_same_contents(const Path& a, const Path& b) {
  const auto in_a = contents(a), in_b = contents(b);
  EXPECT_FALSE(in_a.empty()) << a;
  EXPECT_EQ(in_a.size(), in_b.size());
  for (const auto& [name, bytes] : in_a)
    EXPECT_TRUE(in_b.count(name) && in_b.at(name) == bytes)
        << name << " differs between " << a << " and " << b;
}

}  // namespace cresco::dictionaries::toy
