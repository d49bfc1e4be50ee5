#include "cresco/corpora/gpt2_dataset.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <numeric>

namespace cresco::corpora {
namespace {

// Ids count up through the whole file, so that a misplaced token shows.
std::shared_ptr<const formats::TokenFile> counting(const Path& prefix,
                                                   const std::vector<std::int64_t>& sizes) {
  formats::TokenFileWriter writer(prefix, formats::TokenType::U16);
  std::int32_t next = 0;
  for (const std::int64_t size : sizes) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(size));
    std::iota(ids.begin(), ids.end(), next);
    next += static_cast<std::int32_t>(size);
    writer.append(ids);
  }
  writer.commit();
  return std::make_shared<formats::TokenFile>(prefix);
}

// The ids of sample k, token by token from the golden's indices.
std::vector<std::int32_t> slow_sample(const Json& golden, std::size_t k,
                                      const formats::TokenFile& file) {
  const auto window = golden["shuffle_idx"][k].get<std::size_t>();
  auto place = golden["sample_idx"][window][0].get<std::size_t>();
  auto offset = golden["sample_idx"][window][1].get<std::int64_t>();
  std::vector<std::int32_t> ids;
  while (std::ssize(ids) <= golden["sequence_length"].get<std::int64_t>()) {
    const auto document = golden["doc_idx"][place].get<std::int64_t>();
    if (offset == file.begin(document + 1) - file.begin(document)) {
      ++place;
      offset = 0;
      continue;
    }
    ids.push_back(static_cast<std::int32_t>(file.begin(document) + offset++));
  }
  return ids;
}

TEST(Gpt2Dataset, IsInTheOrderThatNumpyMakes) {
  const Json goldens =
      read_json_file(Path(CRESCO_SOURCE_DIR) / "tests" / "goldens" / "gpt2_dataset.json")["orders"];
  EXPECT_EQ(goldens.size(), 9u);
  for (const Json& golden : goldens) {
    const TemporaryFolder folder;
    const auto file = counting(folder / "c", golden["sizes"].get<std::vector<std::int64_t>>());
    const Gpt2Dataset dataset(file, golden["sequence_length"].get<std::int64_t>(),
                              golden["samples"].get<std::int64_t>(),
                              golden["seed"].get<std::int64_t>());
    EXPECT_EQ(dataset.num_epochs(), golden["epochs"].get<std::int64_t>());
    EXPECT_EQ(Json(std::vector(dataset.doc_idx().begin(), dataset.doc_idx().end())),
              golden["doc_idx"]);
    EXPECT_EQ(Json(std::vector(dataset.shuffle_idx().begin(), dataset.shuffle_idx().end())),
              golden["shuffle_idx"]);
    EXPECT_EQ(std::ssize(golden["sample_idx"]), dataset.size() + 1);
    for (std::int64_t j = 0; j <= dataset.size(); ++j) {
      const Json& begin = golden["sample_idx"][static_cast<std::size_t>(j)];
      EXPECT_EQ(dataset.window_begin(j),
                (Gpt2Dataset::Begin{begin[0].get<std::int32_t>(), begin[1].get<std::int32_t>()}))
          << j;
    }
    std::vector<std::int32_t> ids(static_cast<std::size_t>(dataset.window_ids()));
    for (std::int64_t k = 0; k < dataset.size(); ++k) {
      dataset.read(k, ids);
      EXPECT_EQ(ids, slow_sample(golden, static_cast<std::size_t>(k), *file)) << k;
      std::int64_t position = 0;
      for (const DocumentPiece& piece : dataset.pieces(k)) {
        EXPECT_EQ(piece.position, position);
        EXPECT_EQ(ids[static_cast<std::size_t>(position)],
                  file->begin(piece.document) + piece.offset);
        position += piece.count;
      }
      EXPECT_EQ(position, dataset.window_ids());
    }
    EXPECT_THROW(dataset.read(dataset.size(), ids), Error);
    EXPECT_THROW(dataset.read(-1, ids), Error);
  }
}

// 143,000 steps of 1024: the number in the names of Pythia's index files.
TEST(Gpt2Dataset, WantsHalfAPercentMore) {
  EXPECT_EQ(gpt2_samples_wanted(143'000, 1024), 147'164'160);
  EXPECT_EQ(gpt2_samples_wanted(1, 1), 2);
  EXPECT_THROW(gpt2_samples_wanted(0, 1024), UsageError);
  EXPECT_THROW(gpt2_samples_wanted(std::int64_t{1} << 60, 1024), UsageError);
}

TEST(Gpt2Dataset, RefusesWhatItCannotIndex) {
  const TemporaryFolder folder;
  const auto file = counting(folder / "c", {3, 4});
  EXPECT_THROW(Gpt2Dataset(file, 2048, std::int64_t{1} << 40, 0), Error);  // 10^14 epochs
  EXPECT_THROW(Gpt2Dataset(file, 0, 1, 0), UsageError);
  EXPECT_THROW(Gpt2Dataset(file, 2, 0, 0), UsageError);
  EXPECT_THROW(Gpt2Dataset(file, 2, 1, -1), UsageError);
  EXPECT_THROW(Gpt2Dataset(counting(folder / "empty", {0, 0}), 2, 1, 0), Error);
}

}  // namespace
}  // namespace cresco::corpora
