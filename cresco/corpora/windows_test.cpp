#include "cresco/corpora/windows.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/corpora/numpy_random.h"
#include "cresco/formats/megatron.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <thread>

namespace cresco::corpora {
namespace {

// Documents of 10 tokens that count up: 0..9, 10..19, ...
std::shared_ptr<const formats::TokenFile> counting(const Path& prefix, int documents) {
  formats::TokenFileWriter writer(prefix, formats::TokenType::U16);
  for (int d = 0; d < documents; ++d) {
    std::vector<std::int32_t> ids(10);
    std::iota(ids.begin(), ids.end(), 10 * d);
    writer.append(ids);
  }
  writer.commit();
  return std::make_shared<formats::TokenFile>(prefix);
}

TEST(Windows, ShareOneTokenWithTheirNeighbour) {
  const TemporaryFolder folder;
  const Windows windows(TokenStream(counting(folder / "c", 5), [](std::int64_t) { return true; }),
                        7);
  EXPECT_EQ(windows.size(), 7);  // (50 - 1) / 7
  std::vector<std::int32_t> ids(8);
  for (std::int64_t i = 0; i < windows.size(); ++i) {
    windows.read(i, ids);
    for (std::int32_t t = 0; t < 8; ++t) EXPECT_EQ(ids[static_cast<std::size_t>(t)], 7 * i + t);
  }
}

// Of 50 ids: what a window begins with, how many ids it has, how many windows there are.
TEST(Windows, AreCutInThreeWays) {
  const TemporaryFolder folder;
  const TokenStream stream(counting(folder / "c", 5), [](std::int64_t) { return true; });
  const struct {
    const char* name;
    std::int64_t T, stride, ids, size;
  } cases[] = {{"overlap", 7, 7, 8, 7},    {"block", 7, 7, 7, 7},    {"row2049", 7, 8, 8, 6},
               {"overlap", 49, 49, 50, 1}, {"block", 50, 50, 50, 1}, {"row2049", 49, 50, 50, 1},
               {"overlap", 50, 50, 51, 0}, {"block", 51, 51, 51, 0}, {"row2049", 50, 51, 51, 0},
               {"block", 10, 10, 10, 5},   {"row2049", 9, 10, 10, 5}};
  for (const auto& c : cases) {
    const Windows windows(stream, c.T, window_kind_named(c.name));
    ASSERT_EQ(windows.size(), c.size) << c.name;
    ASSERT_EQ(windows.window_ids(), c.ids) << c.name;
    std::vector<std::int32_t> ids(static_cast<std::size_t>(c.ids));
    for (std::int64_t i = 0; i < c.size; ++i) {
      windows.read(i, ids);
      for (std::int64_t t = 0; t < c.ids; ++t)
        EXPECT_EQ(ids[static_cast<std::size_t>(t)], c.stride * i + t) << c.name;
    }
    EXPECT_THROW(windows.read(c.size, ids), Error);
    EXPECT_THROW(windows.read(-1, ids), Error);
  }
  EXPECT_THROW(window_kind_named("blok"), UsageError);
}

TEST(Windows, AreSliced) {
  const TemporaryFolder folder;
  const TokenStream stream(counting(folder / "c", 5), [](std::int64_t) { return true; });
  const Windows last = Windows(stream, 10, WindowKind::Block).slice(1, 5).slice(1, 3);
  EXPECT_EQ(last.size(), 2);
  std::vector<std::int32_t> ids(10);
  last.read(1, ids);
  EXPECT_EQ(ids[0], 30);
  EXPECT_EQ(last.pieces(1).front().document, 3);
  EXPECT_THROW(last.read(2, ids), Error);
  EXPECT_THROW(last.slice(0, 3), Error);
}

TEST(TokenStream, HoldsTheDocumentsThatAreKept) {
  const TemporaryFolder folder;
  const TokenStream odd(counting(folder / "c", 6), [](std::int64_t d) { return d % 2 == 1; });
  EXPECT_EQ(odd.num_tokens(), 30);
  std::vector<std::int32_t> ids(30);
  odd.read(0, ids);
  for (std::size_t i = 0; i < 30; ++i)
    EXPECT_EQ(ids[i], static_cast<std::int32_t>(10 + 20 * (i / 10) + i % 10));
  EXPECT_THROW(odd.read(1, ids), Error);
}

TEST(TokenStream, IsCutAnywhere) {
  const TemporaryFolder folder;
  const TokenStream odd(counting(folder / "c", 6), [](std::int64_t d) { return d % 2 == 1; });
  std::vector<std::int32_t> whole(30), parts(30);
  odd.read(0, whole);
  for (const std::int64_t at : {0, 7, 10, 25, 30}) {
    odd.slice(0, at).read(0, std::span(parts).first(static_cast<std::size_t>(at)));
    odd.slice(at, 30).read(0, std::span(parts).subspan(static_cast<std::size_t>(at)));
    EXPECT_EQ(parts, whole) << at;
  }
}

// Documents of 10 ids that count up: id / 10 is the document, id % 10 the offset.
TEST(TokenStream, NamesTheDocumentsOfItsTokens) {
  const TemporaryFolder folder;
  const TokenStream odd = TokenStream(counting(folder / "c", 6), [](std::int64_t d) {
                            return d % 2 == 1;
                          }).slice(4, 28);
  std::vector<std::int32_t> ids(15);
  odd.read(3, ids);
  const auto pieces = odd.pieces(3, 15);
  ASSERT_EQ(pieces.size(), 3u);  // 3 of document 1, 10 of 3, 2 of 5
  EXPECT_EQ(pieces[2].document, 5);
  std::int64_t position = 0;
  for (const DocumentPiece& piece : pieces) {
    EXPECT_EQ(piece.position, position);
    EXPECT_EQ(ids[static_cast<std::size_t>(position)], 10 * piece.document + piece.offset);
    position += piece.count;
  }
  EXPECT_EQ(position, 15);
}

TEST(WindowOrder, ReadsEachWindowOnceAnEpoch) {
  const WindowOrder order("shuffled", 3, 20);
  for (const std::int64_t epoch : {0, 1}) {
    std::set<std::int64_t> seen;
    for (std::int64_t i = 0; i < 20; ++i) seen.insert(order.at(20 * epoch + i));
    EXPECT_EQ(seen.size(), 20u);
  }
  bool differs = false;
  for (std::int64_t i = 0; i < 20; ++i) differs = differs || order.at(i) != order.at(20 + i);
  EXPECT_TRUE(differs);
  EXPECT_EQ(order.at(33), WindowOrder("shuffled", 3, 20).at(33));  // from anywhere, in any order
  EXPECT_EQ(WindowOrder("sequential", 3, 20).at(33), 13);
  EXPECT_THROW(WindowOrder("shufled", 3, 20), UsageError);
}

TEST(WindowOrder, IsNumpysPermutationOfEachEpoch) {
  const WindowOrder order("numpy", 1234, 1000);
  for (const std::int64_t epoch : {2, 0, 1, 2}) {
    const auto expected = NumpyGenerator(1234 + epoch).permutation(1000);
    for (std::int64_t i = 0; i < 1000; ++i)
      ASSERT_EQ(order.at(1000 * epoch + i), expected[static_cast<std::size_t>(i)]);
  }
  // What numpy says: default_rng(1234).permutation(1000)[:8].
  const std::vector<std::int64_t> begin{314, 767, 539, 43, 558, 709, 737, 67};
  for (std::size_t i = 0; i < begin.size(); ++i)
    EXPECT_EQ(order.at(static_cast<std::int64_t>(i)), begin[i]);
}

TEST(WindowOrder, OfPythiaEndsWithTheData) {
  const WindowOrder order("pythia", 3, 20);
  for (std::int64_t i = 0; i < 20; ++i) EXPECT_EQ(order.at(i), i);
  EXPECT_THROW(order.at(20), Error);
  EXPECT_THROW(order.at(-1), Error);
}

TEST(WindowOrder, IsReadByManyThreadsAtOnce) {
  for (const char* name : {"shuffled", "numpy"}) {
    const WindowOrder shared(name, 7, 50);
    std::vector<std::int64_t> expected;
    for (std::int64_t i = 0; i < 400; ++i) expected.push_back(WindowOrder(name, 7, 50).at(i));
    std::vector<std::thread> threads;
    std::vector<std::vector<std::int64_t>> seen(4);
    for (std::size_t t = 0; t < seen.size(); ++t)
      threads.emplace_back([&, t] {
        for (std::int64_t i = 0; i < 400; ++i)  // each thread from another end
          seen[t].push_back(shared.at(t % 2 == 0 ? i : 399 - i));
      });
    for (std::thread& thread : threads) thread.join();
    for (std::size_t t = 0; t < seen.size(); ++t) {
      if (t % 2 != 0) std::reverse(seen[t].begin(), seen[t].end());
      EXPECT_EQ(seen[t], expected) << name;
    }
  }
}

// 20,000 coins of 5 %: within 4.5 standard errors of 1,000.
TEST(HeldOut, IsTheShareAskedFor) {
  int held = 0;
  for (std::int64_t d = 0; d < 20'000; ++d) held += is_held_out(7, d, 0.05);
  EXPECT_NEAR(held, 1000, 139);
}

}  // namespace
}  // namespace cresco::corpora
