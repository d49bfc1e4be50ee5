#include "cresco/formats/shard_index.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_writer.h"

#include <gtest/gtest.h>

namespace cresco::formats {
namespace {

const float kNumber = 1;

TensorView named(const char* name) {
  return {name, DType::F32, {1}, std::as_bytes(std::span(&kNumber, 1))};
}

std::vector<std::string> names_of(const std::vector<StoredTensor>& tensors) {
  std::vector<std::string> names;
  for (const StoredTensor& tensor : tensors) names.push_back(tensor.name);
  return names;
}

using Names = std::vector<std::string>;

TEST(ShardIndex, ReadsTheShardsOfBothKinds) {
  const TemporaryFolder folder;
  const auto index_of = [](const std::string& one, const std::string& two) {
    return fmt::format(
        R"({{"metadata":{{"total_size":12}},"weight_map":{{"a":"{0}","c":"{0}","b":"{1}"}}}})", one,
        two);
  };
  write_torch(folder / "p-1.bin", {named("a"), named("c")});
  write_torch(folder / "p-2.bin", {named("b"), named("mask"), named("a")});
  write_file(folder / "pytorch_model.bin.index.json", index_of("p-1.bin", "p-2.bin"));
  const FolderWeights bin = read_folder_weights(folder.path());
  EXPECT_EQ(bin.files, (std::vector<Path>{folder / "p-1.bin", folder / "p-2.bin"}));
  EXPECT_EQ(names_of(bin.tensors), (Names{"a", "c", "b"}));
  EXPECT_EQ(names_of(bin.extra), (Names{"mask", "a"}));
  EXPECT_EQ(bin.total_bytes, 12);

  write_safetensors(folder / "m-1.safetensors", {named("a"), named("c")});
  write_safetensors(folder / "m-2.safetensors", {named("b")});
  write_file(folder / "model.safetensors.index.json",
             index_of("m-1.safetensors", "m-2.safetensors"));
  EXPECT_EQ(read_folder_weights(folder.path()).files[0], folder / "m-1.safetensors");

  write_safetensors(folder / "model.safetensors", {named("whole")});
  EXPECT_EQ(names_of(read_folder_weights(folder.path()).tensors), Names{"whole"});
  EXPECT_THROW(read_folder_weights(folder / "empty"), Error);
}

TEST(ShardIndex, RefusesWhatItsFilesDoNotHold) {
  const TemporaryFolder folder;
  write_safetensors(folder / "m.safetensors", {named("a")});
  const auto refused = [&](const char* map) {
    write_file(folder / "i.json", fmt::format(R"({{"weight_map":{}}})", map));
    try {
      read_shards(folder / "i.json");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(refused(R"({"a":"m.safetensors"})"), "no error");
  EXPECT_NE(refused(R"({"b":"m.safetensors"})").find("should hold tensor 'b'"), std::string::npos);
  EXPECT_NE(refused(R"({"a":"n.safetensors"})").find("not there"), std::string::npos);
  EXPECT_NE(refused(R"({"a":"i.json"})").find("torch.save"), std::string::npos);
}

TEST(ShardIndex, RefusesOtherNamesAndTexts) {
  const auto error_of = [](const std::string& text) {
    try {
      parse_shard_index(text, "x");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  for (const char* name : {"", ".", "..", "../a", "/a", "b/a", "b\\\\a", "a\\u0000"})
    EXPECT_NE(error_of(fmt::format(R"({{"weight_map":{{"t":"{}"}}}})", name))
                  .find("no name in the folder"),
              std::string::npos)
        << name;
  for (const char* text : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})",
                           R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":"b","a":"c"}})"})
    EXPECT_NE(error_of(text), "no error") << text;
  // Its total is no promise: others than whole numbers are passed over.
  EXPECT_EQ(parse_shard_index(R"({"metadata":{"total_size":1.5},"weight_map":{"a":"b"}})", "x")
                .total_bytes,
            std::nullopt);
  const std::string good = R"({"metadata":{"total_size":8},"weight_map":{"a":"b","c":"b"}})";
  EXPECT_EQ(parse_shard_index(good, "x").files, Names{"b"});
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_NE(error_of(good.substr(0, n)), "no error");
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      error_of(bad);
    }
}

}  // namespace
}  // namespace cresco::formats
