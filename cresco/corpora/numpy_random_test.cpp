#include "cresco/corpora/numpy_random.h"

#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <numeric>
#include <vector>

namespace cresco::corpora {
namespace {

// What numpy computed: tools/make_goldens.py.
Json goldens() {
  return read_json_file(Path(CRESCO_SOURCE_DIR) / "tests" / "goldens" / "numpy_random.json");
}

// Past two refills of the 624 words.
TEST(NumpyRandom, DrawsWhatNumpyDraws) {
  const Json draws = goldens()["draws_1296_to_1300"];
  EXPECT_EQ(draws.size(), 3u);
  for (const auto& [seed, expected] : draws.items()) {
    NumpyRandom random(std::stoll(seed));
    for (int i = 0; i < 1295; ++i) random.next32();
    for (const std::uint32_t value : expected) EXPECT_EQ(random.next32(), value) << seed;
  }
}

TEST(NumpyRandom, BoundsDrawsAsNumpyDoes) {
  const Json bounded = goldens()["bounded"];
  EXPECT_EQ(bounded.size(), 10u);
  for (const Json& golden : bounded) {
    NumpyRandom random(golden["seed"].get<std::int64_t>());
    for (const std::uint64_t value : golden["values"])
      EXPECT_EQ(random.up_to(golden["max"].get<std::uint64_t>()), value) << golden["max"];
  }
}

TEST(NumpyRandom, ShufflesAsNumpyDoesAndGoesOn) {
  const Json shuffles = goldens()["shuffles"];
  EXPECT_EQ(shuffles.size(), 30u);
  std::optional<NumpyRandom> random;
  for (const Json& golden : shuffles) {
    if (golden["first_of_two"].get<bool>()) random.emplace(golden["seed"].get<std::int64_t>());
    std::vector<std::uint32_t> values(golden["size"].get<std::size_t>());
    std::iota(values.begin(), values.end(), 0u);
    random->shuffle(std::span(values));
    for (std::size_t i = 0; i < golden["begin"].size(); ++i)
      EXPECT_EQ(values[i], golden["begin"][i].get<std::uint32_t>()) << golden["size"];
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(values))), golden["sha256"].get<std::string>())
        << golden["size"];
  }
}

Json generator_goldens() {
  return read_json_file(Path(CRESCO_SOURCE_DIR) / "tests" / "goldens" / "numpy_generator.json");
}

TEST(NumpyGenerator, DrawsWhatNumpyDraws) {
  const Json draws = generator_goldens()["draws_996_to_1000"];
  EXPECT_EQ(draws.size(), 7u);
  for (const auto& [seed, expected] : draws.items()) {
    NumpyGenerator whole(std::stoll(seed)), halves(std::stoll(seed));
    for (int i = 0; i < 995; ++i) whole.next64();
    for (int i = 0; i < 2 * 995; ++i) halves.next32();
    for (const std::uint64_t value : expected) {
      EXPECT_EQ(whole.next64(), value) << seed;
      EXPECT_EQ(halves.next32(), static_cast<std::uint32_t>(value)) << seed;
      EXPECT_EQ(halves.next32(), value >> 32) << seed;
    }
  }
}

TEST(NumpyGenerator, PermutesAsNumpyDoes) {
  const Json permutations = generator_goldens()["permutations"];
  EXPECT_EQ(permutations.size(), 24u);
  for (const Json& golden : permutations) {
    const auto values = NumpyGenerator(golden["seed"].get<std::int64_t>())
                            .permutation(golden["size"].get<std::uint32_t>());
    for (std::size_t i = 0; i < golden["begin"].size(); ++i)
      EXPECT_EQ(values[i], golden["begin"][i].get<std::uint32_t>()) << golden["size"];
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(values))), golden["sha256"].get<std::string>())
        << golden["size"];
  }
}

TEST(NumpyRandom, RefusesSeedsThatNumpyRefuses) {
  EXPECT_THROW(NumpyGenerator(-1), UsageError);
  EXPECT_THROW(NumpyRandom(-1), UsageError);
  EXPECT_THROW(NumpyRandom(std::int64_t{1} << 32), UsageError);
}

}  // namespace
}  // namespace cresco::corpora
