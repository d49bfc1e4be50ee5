#include "cresco/formats/zip.h"

#include "cresco/base/require.h"
#include "cresco/formats/zip_of.h"

#include <gtest/gtest.h>

#include <cstring>

namespace cresco::formats {
namespace {

std::string error_of(const std::string& bytes) {
  try {
    read_zip_directory(InputFile("x", bytes));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

void expect_error(const std::string& bytes, std::string_view words) {
  EXPECT_NE(error_of(bytes).find(words), std::string::npos) << error_of(bytes) << " / " << words;
}

template <class Number>
std::string with(std::string bytes, std::size_t at, Number value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

TEST(Zip, FindsStoredAndDeflatedEntries) {
  const std::string text(5000, 'z');
  for (const bool is_64 : {false, true}) {
    const InputFile file("x", zip_of({{"a", "hello"}, {"f/", ""}, {"f/b", text, true}}, is_64));
    const auto entries = read_zip_directory(file);
    ASSERT_EQ(entries.size(), 2u);  // without the folder
    EXPECT_EQ(file.read_text(entries[0].offset, entries[0].bytes), "hello");
    EXPECT_EQ(read_zip_entry(file, entries[0], 5), "hello");
    EXPECT_TRUE(entries[1].is_compressed);
    EXPECT_EQ(read_zip_entry(file, entries[1], 5000), text);
    EXPECT_EQ(read_zip_entry_start(file, entries[1], 7), "zzzzzzz");
    EXPECT_THROW(read_zip_entry(file, entries[1], 4999), Error);
  }
}

TEST(Zip, RefusesNamesThatLeadElsewhere) {
  for (const char* name : {"../a", "a/../b", "..", "/a", "a\\b", "C:a", ""})
    EXPECT_NE(error_of(zip_of({{name, "1"}})), "no error") << name;
  EXPECT_EQ(error_of(zip_of({{"a..b/..c", "1"}})), "no error");
  expect_error(zip_of({{"a", "1"}, {"a", "2"}}), "two entries 'a'");
}

TEST(Zip, RefusesLies) {
  const std::string good = zip_of({{"a", "hello"}, {"b", "world"}});
  EXPECT_EQ(error_of(good), "no error");
  const std::size_t first = good.find("PK\x01\x02"), second = good.find("PK\x01\x02", first + 1);
  const std::size_t end = good.find("PK\x05\x06");
  expect_error(with(good, first + 8, std::uint16_t{1}), "encrypted");
  expect_error(with(good, first + 10, std::uint16_t{12}), "method 12");
  expect_error(with(good, first + 10, std::uint16_t{8}), "another header");
  expect_error(with(good, first + 24, std::uint32_t{6}), "two sizes");
  const std::string long_both =
      with(with(good, first + 20, std::uint32_t{500}), first + 24, std::uint32_t{500});
  expect_error(long_both, "reach into the directory");
  expect_error(with(with(good, first + 20, std::uint32_t{40}), first + 24, std::uint32_t{40}),
               "overlap");
  expect_error(with(good, second + 42, std::uint32_t{0}), "another header");
  expect_error(with(good, second + 42, std::uint32_t{1} << 30), "begins at byte");
  expect_error(with(good, first + 34, std::uint16_t{2}), "another part");
  expect_error(with(good, first + 24, ~std::uint32_t{0}), "64-bit");
  expect_error(with(good, end + 4, std::uint16_t{1}), "several parts");
  expect_error(with(good, end + 8, std::uint32_t{0x00030003}), "claims 3 entries");
  expect_error(with(good, end + 8, std::uint32_t{0x00010001}), "follow");
  expect_error(with(good, end + 8, std::uint32_t{0xfff0fff0}), "claims 65520 entries");
  expect_error(with(good, end + 16, std::uint32_t{1}), "ends at byte");
  expect_error("before" + good, "before the zip");
  expect_error(good + "after", "no directory");
  // A second header may stand where the local one should.
  expect_error(with(good, 0, std::uint32_t{0}), "another header");
}

TEST(Zip, RefusesLiesOfTheLargeRecord) {
  const std::string good = zip_of({{"a", "hello"}}, true);
  EXPECT_EQ(error_of(good), "no error");
  const std::size_t record = good.find("PK\x06\x06"), locator = good.find("PK\x06\x07");
  const std::size_t central = good.find("PK\x01\x02");
  expect_error(with(good, locator + 8, std::uint64_t{1}), "64-bit end record is said to be");
  expect_error(with(good, locator + 8, ~std::uint64_t{0}), "position or size");
  expect_error(with(good, locator + 16, std::uint32_t{2}), "several parts");
  expect_error(with(good, record, std::uint32_t{0}), "damaged");
  expect_error(with(good, record + 24, std::uint64_t{7}), "several parts");
  expect_error(with(good, record + 40, ~std::uint64_t{0} >> 1), "ends at byte");
  expect_error(
      with(with(good, record + 24, std::uint64_t{1} << 40), record + 32, std::uint64_t{1} << 40),
      "entries");
  expect_error(with(good, central + 46 + 1 + 2, std::uint16_t{7}), "64-bit");
  expect_error(with(good, central + 46 + 1 + 4, ~std::uint64_t{0}), "position or size");
}

TEST(Zip, NeverInflatesMoreThanItSays) {
  const std::string text(100'000, 'z');
  const std::string good = zip_of({{"a", text, true}});
  const std::size_t central = good.find("PK\x01\x02");
  // More than deflate can reach is refused before anything is inflated.
  expect_error(with(good, central + 24, std::uint32_t{1} << 31), "more than deflate can");
  for (const std::uint32_t lie : {99'999u, 100'001u}) {
    const InputFile file("x", with(good, central + 24, lie));
    const auto entries = read_zip_directory(file);
    EXPECT_THROW(read_zip_entry(file, entries[0], 1 << 20), Error);
  }
  const InputFile other_sum("x", with(good, central + 16, std::uint32_t{1}));
  EXPECT_THROW(read_zip_entry(other_sum, read_zip_directory(other_sum)[0], 1 << 20), Error);
  const InputFile damaged("x", with(good, good.find('\x03', 31), ~std::uint64_t{0}));
  EXPECT_THROW(read_zip_entry(damaged, read_zip_directory(damaged)[0], 1 << 20), Error);
}

TEST(Zip, SurvivesEveryDamage) {
  for (const bool is_64 : {false, true}) {
    const std::string good = zip_of({{"a", "hello"}, {"b", std::string(300, 'z'), true}}, is_64);
    for (std::size_t n = 0; n < good.size(); ++n)
      EXPECT_NE(error_of(good.substr(0, n)), "no error");
    for (std::size_t at = 0; at < good.size(); ++at)
      for (int bit = 0; bit < 8; ++bit) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
        const InputFile file("x", bad);
        try {
          for (const ZipEntry& entry : read_zip_directory(file))
            read_zip_entry(file, entry, 1 << 20);
        } catch (const Error&) {
        }
      }
  }
}

}  // namespace
}  // namespace cresco::formats
