#include "cresco/verbs/batch.h"

#include "cresco/base/json.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"
#include "cresco/pretrain/data.h"
#include "cresco/pretrain/run_folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>

namespace cresco::verbs {
namespace {

std::vector<std::int32_t> counting(std::int32_t count, std::int32_t first) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

void write_pair(const Path& prefix, std::int32_t documents, std::int32_t size) {
  formats::TokenFileWriter writer(prefix, formats::TokenType::U16);
  for (std::int32_t d = 0; d < documents; ++d) writer.append(counting(size, d * size));
  writer.commit();
}

void write_flat(const Path& path, std::int32_t count, std::int32_t first) {
  const auto ids = counting(count, first);
  const std::vector<std::uint16_t> stored(ids.begin(), ids.end());
  write_file(path, {reinterpret_cast<const char*>(stored.data()), 2 * stored.size()});
}

// What a run has of itself before its first step, as far as `batch` looks at it.
void write_run(const Path& folder, pretrain::Recipe recipe) {
  std::filesystem::create_directories(folder);
  const pretrain::RunFolder run{folder};
  const pretrain::RunData data = pretrain::RunData::open(recipe);
  write_json_file(run.data_order(), pretrain::data_order(recipe, data));
  write_file(run.recipe(), fields_to_yaml([&](FieldVisitor& v) { recipe.fields(v); }));
}

pretrain::Recipe recipe_of(std::vector<pretrain::MixturePart> parts, const std::string& window,
                           const std::string& order) {
  pretrain::Recipe r;
  r.model.neox.vocab_size = 50'000;
  if (parts.size() == 1)
    r.data.tokens = parts.front().prefix;
  else
    r.data.mixture = std::move(parts);
  r.data.window = window;
  r.data.order = order;
  r.data.sequence_length = 9;
  r.data.validation = "blocks:2";
  r.batch.sequences = 5;
  r.budget.steps = order == "pythia" ? 5 : 12;  // of others more than an epoch
  return r;
}

Json batch_of(const BatchVerbConfig& config) {
  VerbContext context{.options = {}, .command = {}, .progress = no_progress()};
  context.options.json = true;
  return run_batch(config, context).summary;
}

// Every order, window and layout, and mixtures of them: what `batch` shows of a run is what the
// training loop is given.
TEST(Batch, OfARunIsWhatItsLoopReads) {
  const TemporaryFolder folder;
  write_pair(folder / "pair", 30, 10);
  write_flat(folder / "flat.bin", 300, 1000);
  write_flat(folder / "s-00000-of-00001.bin", 170, 2000);
  write_flat(folder / "s-00001-of-00001.bin", 130, 2170);
  const std::string pair = (folder / "pair").string(), flat = (folder / "flat").string(),
                    shards = (folder / "s").string();
  const std::vector<std::vector<pretrain::MixturePart>> sources{
      {{pair, 1}}, {{flat, 1}}, {{shards, 1}}, {{flat, 0.7}, {pair, 0.2}, {shards, 0.1}}};
  int runs = 0;
  for (const std::string window : {"overlap", "block", "row2049"})
    for (const std::string order : {"shuffled", "sequential", "numpy", "pythia"})
      for (const auto& parts : sources) {
        if (order == "pythia" && window != "row2049") continue;
        SCOPED_TRACE(fmt::format("{} {} {} ...", window, order, parts.front().prefix));
        const pretrain::Recipe recipe = recipe_of(parts, window, order);
        const pretrain::RunData data = pretrain::RunData::open(recipe);
        const Path run = folder / fmt::format("run{}", runs++);
        write_run(run, recipe);
        for (std::int64_t step = 0; step < recipe.total_steps(); ++step) {
          BatchVerbConfig config;
          config.run = run.string();
          config.step = step;
          config.documents = true;
          const Json got = batch_of(config);
          const at::Tensor ids = pretrain::read_batch(data, 5 * step, 5, 50'000);
          ASSERT_EQ(got["row_tokens"], data.window_ids());
          ASSERT_EQ(got["order"], order);
          for (std::int64_t row = 0; row < 5; ++row)
            for (std::int64_t t = 0; t < data.window_ids(); ++t)
              ASSERT_EQ(got["ids"][static_cast<std::size_t>(row)][static_cast<std::size_t>(t)],
                        ids[row][t].item<std::int64_t>());
          // An id says which corpus it is of, and where it stands there.
          for (const Json& piece : got["documents"]) {
            const auto source = piece.contains("source") ? piece["source"].get<std::size_t>() : 0;
            const std::string name = parts[source].prefix;
            const std::int64_t first = name == flat ? 1000 : name == shards ? 2000 : 0;
            const std::int64_t size = name == pair && window != "row2049" ? 10 : 1000;
            EXPECT_EQ(
                got["ids"][piece["row"].get<std::size_t>()][piece["position"].get<std::size_t>()],
                first + size * piece["document"].get<std::int64_t>() +
                    piece["offset"].get<std::int64_t>());
          }
        }
      }
  EXPECT_EQ(runs, 40);
}

TEST(Batch, FindsTheCorporaOfAMixtureInTheirFolder) {
  const TemporaryFolder folder, other;
  write_pair(folder / "pair", 30, 10);
  write_flat(folder / "flat.bin", 300, 1000);
  write_flat(folder / "held.bin", 40, 0);
  pretrain::Recipe recipe = recipe_of(
      {{(folder / "pair").string(), 1}, {(folder / "flat.bin").string(), 1}}, "block", "numpy");
  recipe.data.validation = (folder / "held.bin").string();
  write_run(folder / "run", recipe);
  BatchVerbConfig config;
  config.run = (folder / "run").string();
  config.step = 3;
  const Json before = batch_of(config);
  for (const char* name : {"pair.bin", "pair.idx", "flat.bin", "held.bin"})
    std::filesystem::rename(folder / name, other / name);
  EXPECT_THROW(batch_of(config), Error);
  config.data = (other / "pair").string();
  EXPECT_THROW(batch_of(config), UsageError);
  config.data = other.path().string();
  EXPECT_EQ(batch_of(config)["ids"], before["ids"]);
  write_flat(other / "flat.bin", 300, 1001);
  EXPECT_THROW(batch_of(config), Error);
}

TEST(Batch, RefusesARunWhoseOrderIsNoObject) {
  const TemporaryFolder folder;
  write_flat(folder / "flat.bin", 300, 0);
  write_run(folder / "run", recipe_of({{(folder / "flat.bin").string(), 1}}, "block", "numpy"));
  BatchVerbConfig config;
  config.run = (folder / "run").string();
  config.step = 0;
  for (const char* order : {"[]", "1", "{}", "{\"sources\": [3], \"validation_sha256\": [4]}"}) {
    write_file(folder / "run" / "data_order.json", order);
    EXPECT_THROW(batch_of(config), Error) << order;
  }
}

}  // namespace
}  // namespace cresco::verbs
