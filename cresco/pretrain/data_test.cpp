#include "cresco/pretrain/data.h"

#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/corpora/numpy_random.h"
#include "cresco/corpora/preshuffled.h"
#include "cresco/formats/megatron.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <thread>

namespace cresco::pretrain {
namespace {

constexpr std::int64_t kVocabulary = 50'000;

using Ids = std::vector<std::int32_t>;

// Ids that count up, so that an id says where it stands: `first`, `first` + 1, ...
Ids counting(std::int64_t count, std::int32_t first = 0) {
  Ids ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

std::string u16_bytes(const Ids& ids) {
  const std::vector<std::uint16_t> stored(ids.begin(), ids.end());
  return {reinterpret_cast<const char*>(stored.data()), 2 * stored.size()};
}

void write_pair(const Path& prefix, const Ids& ids, std::size_t document) {
  formats::TokenFileWriter writer(prefix, formats::TokenType::U16);
  for (std::size_t at = 0; at < ids.size(); at += document)
    writer.append(std::span(ids).subspan(at, std::min(document, ids.size() - at)));
  writer.commit();
}

void write_flat(const Path& path, const Ids& ids) { write_file(path, u16_bytes(ids)); }

void write_llmc(const Path& path, const Ids& ids) {
  std::vector<std::int32_t> header(256);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = static_cast<std::int32_t>(ids.size());
  write_file(path,
             std::string(reinterpret_cast<const char*>(header.data()), 1024) + u16_bytes(ids));
}

void write_shards(const Path& folder, const Ids& ids) {
  const std::string bytes = u16_bytes(ids);
  const std::size_t size = bytes.size() / 2 + 7;  // a cut inside a row and an id
  write_file(folder / "rows-00000-of-00001.bin", bytes.substr(0, size));
  write_file(folder / "rows-00001-of-00001.bin", bytes.substr(size));
}

Recipe recipe_of(const std::string& tokens, const std::string& window, const std::string& order) {
  Recipe r;
  r.model.neox.vocab_size = kVocabulary;
  r.data.tokens = tokens;
  r.data.window = window;
  r.data.order = order;
  r.data.sequence_length = 8;
  r.data.validation = "blocks:3";
  r.data.seed = 1234;
  r.batch.sequences = 6;
  r.budget.steps = 4;
  return r;
}

std::vector<Ids> rows(const at::Tensor& ids) {
  std::vector<Ids> out;
  for (std::int64_t i = 0; i < ids.size(0); ++i) {
    const auto* begin = ids.const_data_ptr<std::int64_t>() + i * ids.size(1);
    out.emplace_back(begin, begin + ids.size(1));
  }
  return out;
}

std::vector<Ids> batch(const RunData& data, std::int64_t first, std::int64_t count) {
  return rows(read_batch(data, first, count, kVocabulary));
}

std::string message(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

void expect_says(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << text;
}

// Every layout, window and order against windows that are cut out of the ids by hand.
TEST(RunData, ReadsTheWindowsOfTheOrder) {
  const TemporaryFolder folder;
  const Ids ids = counting(9 * 30, 100);
  write_pair(folder / "pair", ids, 27);
  write_pair(folder / "pair_of_rows", ids, 9);
  write_flat(folder / "flat.bin", ids);
  write_llmc(folder / "llmc.bin", ids);
  write_shards(folder.path(), ids);
  for (const std::string window : {"overlap", "block", "row2049"})
    for (const std::string order : {"shuffled", "sequential", "numpy", "pythia"})
      for (const std::string name : {"pair", "pair_of_rows", "flat", "llmc", "rows"}) {
        if (order == "pythia" && window != "row2049") continue;
        if (name == "pair" && window == "row2049") continue;
        const Recipe recipe = recipe_of((folder / name).string(), window, order);
        const RunData data = RunData::open(recipe);
        const std::int64_t width = window == "block" ? 8 : 9, stride = window == "row2049" ? 9 : 8,
                           total = window == "row2049" ? 30 : 33, n = total - 3;
        SCOPED_TRACE(name + " " + window + " " + order);
        ASSERT_EQ(data.num_training_windows(), n);
        ASSERT_EQ(data.num_validation_windows, 3);
        ASSERT_EQ(data.targets_per_window(), width - 1);
        std::vector<Ids> expected;
        const std::int64_t places = order == "pythia" ? n : 2 * n + 5;
        for (std::int64_t p = 0; p < places; ++p) {
          const std::int64_t epoch = p / n, i = p % n;
          const std::int64_t index =
              order == "numpy"
                  ? corpora::NumpyGenerator(1234 + epoch)
                        .permutation(static_cast<std::uint32_t>(n))[static_cast<std::size_t>(i)]
              : order == "shuffled"
                  ? corpora::WindowOrder("shuffled", 1234, n).at(p)  // has tests of its own
                  : i;
          const auto begin = ids.begin() + index * stride;
          expected.emplace_back(begin, begin + width);
        }
        EXPECT_EQ(batch(data, 0, places), expected);
        for (std::int64_t i = 0; i < 3; ++i)
          EXPECT_EQ(rows(read_validation(data, i, 1, kVocabulary))[0],
                    Ids(ids.begin() + (n + i) * stride, ids.begin() + (n + i) * stride + width));
        EXPECT_THROW(read_validation(data, 2, 2, kVocabulary), Error);
      }
}

// Pythia's rows are those that `PreshuffledRows` has, and the cut of the same file into blocks has
// its boundaries elsewhere.
TEST(RunData, ReadsPreshuffledRowsAndTheirCutIntoBlocks) {
  const TemporaryFolder folder;
  write_shards(folder.path(), counting(9 * 30));
  Recipe recipe = recipe_of((folder / "rows").string(), "row2049", "pythia");
  const RunData whole = RunData::open(recipe);
  const corpora::PreshuffledRows by_rows(folder / "rows", 9);
  for (std::int64_t step = 0; step < 4; ++step) {
    const Ids expected = by_rows.read_rows(6 * step, 6);
    Ids got;
    for (const Ids& row : batch(whole, 6 * step, 6)) got.insert(got.end(), row.begin(), row.end());
    EXPECT_EQ(got, expected);
  }
  recipe = recipe_of((folder / "rows").string(), "block", "sequential");
  const RunData cut = RunData::open(recipe);
  EXPECT_EQ(batch(cut, 5, 1)[0], counting(8, 40));
  EXPECT_EQ(cut.num_training_windows(), 9 * 30 / 8 - 3);
  // Of the first of two shards alone: 277 bytes are 15 rows.
  std::filesystem::remove(folder / "rows-00001-of-00001.bin");
  recipe = recipe_of((folder / "rows").string(), "row2049", "sequential");
  EXPECT_EQ(RunData::open(recipe).num_training_windows(), 12);
}

TEST(RunData, OfOrderPythiaHoldsWhatTheRunReads) {
  const TemporaryFolder folder;
  write_flat(folder / "rows.bin", counting(9 * 30));
  Recipe recipe = recipe_of((folder / "rows").string(), "row2049", "pythia");
  recipe.budget.steps = 4;  // 24 of 27 rows
  const RunData data = RunData::open(recipe);
  require_all_windows(recipe, data);
  recipe.budget.steps = 5;
  expect_says(message([&] { require_all_windows(recipe, data); }), {"27", "30", "pythia"});
  recipe.begins = {.step = 3, .tokens = 100, .place = 15};  // and 12 of the other two steps
  require_all_windows(recipe, data);
  recipe.data.order = "sequential";
  recipe.begins = {};
  require_all_windows(recipe, data);
}

TEST(RunData, CountsTheDocumentsOfHeldOutBlocks) {
  const TemporaryFolder folder;
  write_pair(folder / "c", counting(100), 10);
  Recipe recipe = recipe_of((folder / "c").string(), "block", "sequential");
  recipe.data.validation = "blocks:2";  // of 12 of 8 ids, and 4 ids that fill none
  recipe.batch.sequences = 1;
  const Json order = data_order(recipe, RunData::open(recipe));
  EXPECT_EQ(order["num_training_documents"], 8);
  EXPECT_EQ(order["num_validation_documents"], 2);
}

TEST(DataOrder, SaysWhenTrainingReadsTheSame) {
  const TemporaryFolder folder;
  write_flat(folder / "f.bin", counting(300));
  write_flat(folder / "held.bin", counting(40));
  Recipe recipe = recipe_of((folder / "f.bin").string(), "block", "numpy");
  const auto order_of = [](const Recipe& r) { return data_order(r, RunData::open(r)); };
  const Json order = order_of(recipe);
  EXPECT_FALSE(order.contains("begins"));
  EXPECT_EQ(with_beginning(order, {.step = 5, .tokens = 240, .place = 30})["begins"]["place"], 30);
  Recipe other = recipe;
  other.batch.sequences = 3;
  std::filesystem::copy_file(folder / "f.bin", folder / "g.bin");
  other.data.tokens = (folder / "g.bin").string();
  other.begins = {.step = 5};
  EXPECT_TRUE(same_training_data(order, order_of(other)));
  other.data.seed = 3;
  EXPECT_FALSE(same_training_data(order, order_of(other)));
  other = recipe;
  other.data.validation = "blocks:4";
  EXPECT_FALSE(same_training_data(order, order_of(other)));
  recipe.data.validation = other.data.validation = (folder / "held.bin").string();
  write_flat(folder / "held2.bin", counting(48));
  other.data.validation = (folder / "held2.bin").string();
  EXPECT_TRUE(same_training_data(order_of(recipe), order_of(other)));
}

// The same places whatever is read at a time, and from several threads.
TEST(RunData, IsAFunctionOfThePlace) {
  const TemporaryFolder folder;
  write_pair(folder / "a", counting(400), 25);
  write_flat(folder / "b.bin", counting(130, 1000));
  Recipe recipe = recipe_of("", "block", "numpy");
  recipe.data.mixture = {{(folder / "a").string(), 0.6}, {(folder / "b.bin").string(), 0.4}};
  for (const char* order : {"numpy", "shuffled", "sequential"}) {
    recipe.data.order = order;
    const RunData data = RunData::open(recipe);
    const std::vector<Ids> whole = batch(data, 0, 120);
    for (const std::int64_t micro : {1, 3, 8, 40}) {
      std::vector<Ids> parts;
      for (std::int64_t first = 0; first < 120; first += micro)
        for (Ids& row : batch(data, first, micro)) parts.push_back(std::move(row));
      EXPECT_EQ(parts, whole) << micro;
    }
    std::vector<std::vector<Ids>> seen(4);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < seen.size(); ++t)
      threads.emplace_back([&, t] {
        for (std::int64_t i = 0; i < 120; ++i)  // each from another place on
          seen[t].push_back(batch(data, (i + 30 * static_cast<std::int64_t>(t)) % 120, 1)[0]);
      });
    for (std::thread& thread : threads) thread.join();
    for (std::size_t t = 0; t < seen.size(); ++t)
      for (std::size_t i = 0; i < 120; ++i) EXPECT_EQ(seen[t][i], whole[(i + 30 * t) % 120]);
    EXPECT_EQ(batch(RunData::open(recipe), 77, 9),
              std::vector<Ids>(whole.begin() + 77, whole.begin() + 86));
  }
}

TEST(RunData, MixesInExactShares) {
  const TemporaryFolder folder;
  write_flat(folder / "a.bin", counting(8 * 53));
  write_flat(folder / "b.bin", counting(8 * 13, 10'000));
  write_flat(folder / "c.bin", counting(8 * 8, 20'000));
  Recipe recipe = recipe_of("", "block", "shuffled");
  recipe.data.mixture = {{(folder / "a.bin").string(), 7},
                         {(folder / "b.bin").string(), 2},
                         {(folder / "c.bin").string(), 1}};
  recipe.batch.sequences = 10;
  const RunData data = RunData::open(recipe);
  ASSERT_EQ(data.sources.size(), 3u);
  std::map<std::size_t, std::map<std::int64_t, std::int64_t>> times;  // source, window: how often
  for (std::int64_t step = 0; step < 100; ++step) {
    std::vector<std::int64_t> had(3);
    const auto ids = batch(data, 10 * step, 10);
    for (std::int64_t i = 0; i < 10; ++i) {
      const auto [source, window] = data.training_place(10 * step + i);
      ++had[source];
      ++times[source][window];
      EXPECT_EQ(ids[static_cast<std::size_t>(i)],
                counting(8, static_cast<std::int32_t>(10'000 * source) +
                                static_cast<std::int32_t>(8 * window)));
    }
    EXPECT_EQ(had, (std::vector<std::int64_t>{7, 2, 1}));
  }
  // 700, 200 and 100 windows of 50, 10 and 5: 14, 20 and 20 epochs of their own, all whole.
  const std::vector<std::pair<std::size_t, std::int64_t>> epochs{{50, 14}, {10, 20}, {5, 20}};
  for (std::size_t s = 0; s < epochs.size(); ++s) {
    EXPECT_EQ(times[s].size(), epochs[s].first);
    for (const auto& [window, often] : times[s]) EXPECT_EQ(often, epochs[s].second) << window;
  }
  // Three windows of each are held out: they are mixed for as long as no source is short of one.
  std::vector<std::int64_t> held(3);
  for (std::int64_t p = 0; p < data.num_validation_windows; ++p) {
    const auto [source, window] = data.validation_place(p);
    EXPECT_EQ(window, held[source]++);
  }
  EXPECT_EQ(held, (std::vector<std::int64_t>{3, 1, 0}));
}

// One source beside another is read as it is alone, but for the permutations of the second.
TEST(RunData, GivesEachSourceAnOrderOfItsOwn) {
  const TemporaryFolder folder;
  write_flat(folder / "a.bin", counting(8 * 43));
  write_flat(folder / "b.bin", counting(8 * 43));
  Recipe recipe = recipe_of((folder / "a.bin").string(), "block", "shuffled");
  const RunData alone = RunData::open(recipe);
  recipe.data.tokens = "";
  recipe.data.mixture = {{(folder / "a.bin").string(), 1}, {(folder / "b.bin").string(), 1}};
  const RunData mixed = RunData::open(recipe);
  std::int64_t alike = 0;
  for (std::int64_t i = 0; i < 40; ++i) {
    EXPECT_EQ(mixed.sources[0].order.at(i), alone.sources[0].order.at(i));
    alike += mixed.sources[1].order.at(i) == alone.sources[0].order.at(i);
  }
  EXPECT_LT(alike, 10);
}

TEST(RunData, HoldsOutBlocksAsTheReferenceDoes) {
  const TemporaryFolder folder;
  write_flat(folder / "f.bin", counting(8 * 20 + 5));
  Recipe recipe = recipe_of((folder / "f.bin").string(), "block", "numpy");
  recipe.batch.sequences = 1;
  for (const auto& [blocks, held] : {std::pair{1, 1}, {7, 7}, {19, 19}, {20, 19}, {256, 19}}) {
    recipe.data.validation = fmt::format("blocks:{}", blocks);
    const RunData data = RunData::open(recipe);
    EXPECT_EQ(data.num_validation_windows, held);
    EXPECT_EQ(data.num_training_windows(), 20 - held);
    EXPECT_EQ(rows(read_validation(data, held - 1, 1, kVocabulary))[0], counting(8, 8 * 19));
  }
  write_flat(folder / "f.bin", counting(8));
  expect_says(message([&] { RunData::open(recipe); }), {"validation", "less than one window of 8"});
}

// The recipe-control arms: 10^10 ids in blocks of 2048, 256 held out, 1024 blocks a step. The file
// is as long as theirs and takes no room on the disk.
TEST(RunData, CountsTheBlocksOfTheReference) {
  const TemporaryFolder folder;
  write_flat(folder / "f.bin", {});
  std::filesystem::resize_file(folder / "f.bin", 20'000'000'000);
  Recipe recipe = recipe_of((folder / "f.bin").string(), "block", "numpy");
  recipe.data.sequence_length = 2048;
  recipe.data.validation = "blocks:256";
  recipe.batch.sequences = 1024;
  recipe.budget = {.tokens = 10'000'000'000};
  const RunData data = RunData::open(recipe);
  constexpr std::int64_t kBlocks = 4'882'556;
  ASSERT_EQ(data.num_training_windows(), kBlocks);
  ASSERT_EQ(data.num_validation_windows, 256);
  ASSERT_EQ(recipe.total_steps(), 4769);
  // numpy.random.default_rng(1234).permutation(4882556)[:4]
  const std::vector<std::int64_t> begin{721'618, 137'126, 515'522, 2'914'001};
  for (std::size_t i = 0; i < begin.size(); ++i)
    EXPECT_EQ(data.training_place(static_cast<std::int64_t>(i)).window, begin[i]);
  // The last step ends with the first 900 blocks of the second epoch.
  const auto second = corpora::NumpyGenerator(1235).permutation(kBlocks);
  for (std::int64_t i = 0; i < 900; ++i)
    EXPECT_EQ(data.training_place(4769 * 1024 - 900 + i).window,
              second[static_cast<std::size_t>(i)]);
}

// A file that names no documents gives up its end, whole rows of it.
TEST(RunData, HoldsOutAShareOfAFileWithoutDocuments) {
  const TemporaryFolder folder;
  write_flat(folder / "f.bin", counting(9 * 100 + 4));
  for (const std::string window : {"overlap", "block", "row2049"}) {
    Recipe recipe = recipe_of((folder / "f.bin").string(), window, "sequential");
    recipe.data.validation = "0.1";
    const RunData data = RunData::open(recipe);
    EXPECT_EQ(data.sources[0].split, "tokens");
    const Ids first = rows(read_validation(data, 0, 1, kVocabulary))[0];
    const std::int64_t width = window == "block" ? 8 : 9;
    if (window != "overlap") {
      EXPECT_EQ(first.front() % width, 0) << window;
    }
    EXPECT_EQ(first, counting(width, first.front()));
    EXPECT_NEAR(first.front(), 0.9 * 904, 10);
    const std::int64_t n = data.num_training_windows();
    EXPECT_LT(batch(data, n - 1, 1)[0].back(), first.front());
  }
}

TEST(RunData, HoldsOutAnotherCorpus) {
  const TemporaryFolder folder;
  write_flat(folder / "f.bin", counting(400));
  write_llmc(folder / "v.bin", counting(100, 700));
  Recipe recipe = recipe_of((folder / "f.bin").string(), "overlap", "shuffled");
  recipe.data.validation = (folder / "v.bin").string();
  const RunData data = RunData::open(recipe);
  EXPECT_EQ(data.num_validation_windows, 12);
  EXPECT_EQ(rows(read_validation(data, 2, 1, kVocabulary))[0], counting(9, 716));
  EXPECT_EQ(data.files().size(), 2u);
  EXPECT_NE(data_order(recipe, data)["validation_sha256"], "");
}

TEST(RunData, RefusesACorpusOfLessThanABatch) {
  const TemporaryFolder folder;
  write_pair(folder / "c", counting(160), 20);
  Recipe recipe = recipe_of((folder / "c").string(), "block", "shuffled");
  recipe.batch.sequences = 17;
  RunData::open(recipe);
  recipe.batch.sequences = 18;
  expect_says(message([&] { RunData::open(recipe); }),
              {"17 training windows of 8 ids", "takes 18", "batch.sequences"});
  recipe.data.sequence_length = 1000;
  expect_says(message([&] { RunData::open(recipe); }), {"160", "less than one window of 1000"});
}

TEST(RunData, SaysWhereAnIdIsThatTheModelLacks) {
  const TemporaryFolder folder;
  Ids ids = counting(160);
  ids[77] = 49'000;
  write_pair(folder / "pair", ids, 20);
  write_flat(folder / "flat.bin", ids);
  const Recipe recipe = recipe_of((folder / "pair").string(), "block", "sequential");
  const RunData data = RunData::open(recipe);
  read_batch(data, 0, 9, 49'000);
  expect_says(
      message([&] { read_batch(data, 0, 10, 49'000); }),
      {"pair", "window 9", "document 3, its token 17", "position 5", "49000", "vocab_size"});
  const RunData flat = RunData::open(recipe_of((folder / "flat").string(), "block", "sequential"));
  expect_says(message([&] { read_batch(flat, 9, 1, 49'000); }),
              {"flat.bin", "window 9", "token 77 of the file", "position 5"});
}

TEST(DataOrder, OfAPairIsWhatItAlwaysWas) {
  const TemporaryFolder folder;
  write_pair(folder / "c", counting(400), 20);
  Recipe recipe = recipe_of((folder / "c").string(), "overlap", "shuffled");
  recipe.data.validation = "0.2";
  const Json order = data_order(recipe, RunData::open(recipe));
  std::vector<std::string> keys;
  for (const auto& [key, value] : order.items()) keys.push_back(key);
  EXPECT_EQ(keys,
            (std::vector<std::string>{
                "corpus", "corpus_sha256", "validation_sha256", "split", "validation", "seed",
                "order", "window", "sequence_length", "sequences_per_step", "num_training_windows",
                "num_training_documents", "num_validation_windows", "num_validation_documents"}));
  EXPECT_EQ(order["corpus_sha256"], sha256_hex(as_bytes(sha256_of_file(folder / "c.bin") +
                                                        sha256_of_file(folder / "c.idx"))));
  EXPECT_EQ(order["split"], "documents");
  EXPECT_EQ(
      order["num_training_documents"].get<int>() + order["num_validation_documents"].get<int>(),
      20);
}

// A file of 65 GiB with nothing in it but its last bytes takes no room on the disk.
TEST(DataOrder, KnowsLargeFilesBySamples) {
  const TemporaryFolder folder;
  write_flat(folder / "f.bin", {});
  constexpr std::uintmax_t kBytes = std::uintmax_t{65} << 30;
  std::filesystem::resize_file(folder / "f.bin", kBytes);
  Recipe recipe = recipe_of((folder / "f.bin").string(), "block", "sequential");
  recipe.data.sequence_length = 1 << 20;
  const Json before = data_order(recipe, RunData::open(recipe));
  EXPECT_EQ(before["corpus_hash"], "samples");
  EXPECT_EQ(before["num_training_windows"], (65 << 9) - 3);
  std::fstream file(folder / "f.bin", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-2, std::ios::end);
  file.put('x');
  file.close();
  EXPECT_NE(first_difference(before, data_order(recipe, RunData::open(recipe))), "");
}

TEST(DataOrder, NamesEveryByteThatIsRead) {
  const TemporaryFolder folder;
  write_flat(folder / "a.bin", counting(400));
  write_llmc(folder / "b.bin", counting(400));
  Recipe recipe = recipe_of("", "block", "numpy");
  recipe.data.mixture = {{(folder / "a.bin").string(), 3}, {(folder / "b.bin").string(), 1}};
  const auto order = [&] { return data_order(recipe, RunData::open(recipe)); };
  const Json before = order();
  EXPECT_EQ(before["sources"][0]["share"], 0.75);
  EXPECT_EQ(before["sources"][1]["layout"], "llm.c u16");
  recipe.data.mixture[0].weight = 2;
  EXPECT_NE(first_difference(before, order()), "");
  recipe.data.mixture[0].weight = 6;  // the same share of 8
  recipe.data.mixture[1].weight = 2;
  EXPECT_EQ(first_difference(before, order()), "");
  Ids other = counting(400);
  other[123] = 9;
  write_llmc(folder / "b.bin", other);
  EXPECT_NE(first_difference(before, order()), "");
}

}  // namespace
}  // namespace cresco::pretrain
