// For tests: what stands in the files of tests/data/torch, as the programs that wrote them said.
#pragma once

#include "cresco/base/json.h"
#include "cresco/formats/stored_tensor.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace cresco::formats {

inline Path sample_path(const std::string& name) { return Path(CRESCO_TEST_DATA) / "torch" / name; }

inline std::string read_hex(const StoredTensor& tensor) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.num_bytes()));
  read(tensor, bytes);
  std::string hex;
  for (const std::byte b : bytes) hex += fmt::format("{:02x}", static_cast<int>(b));
  return hex;
}

// The tensors are those of expected.json for this file, with the same types, shapes and bytes.
inline void expect_sample(const std::string& file, const std::vector<StoredTensor>& tensors) {
  const Json expected = read_json_file(sample_path("expected.json"))[file];
  EXPECT_EQ(tensors.size(), expected.size()) << file;
  for (const auto& [name, entry] : expected.items()) {
    const StoredTensor* tensor = find_tensor(tensors, name);
    ASSERT_NE(tensor, nullptr) << file << " " << name;
    EXPECT_EQ(name_of(tensor->dtype), entry["dtype"].get<std::string>()) << file << " " << name;
    EXPECT_EQ(tensor->shape, entry["shape"].get<std::vector<std::int64_t>>())
        << file << " " << name;
    EXPECT_EQ(read_hex(*tensor), entry["hex"].get<std::string>()) << file << " " << name;
  }
}

}  // namespace cresco::formats
