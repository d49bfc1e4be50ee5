#include "cresco/formats/npy.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

namespace cresco::formats {
namespace {

std::string npy_of(std::string header, const std::string& data) {
  header += '\n';
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8);
  return file + header + data;
}

bool refused(const std::string& file) {
  try {
    parse_npy(as_bytes(file), "x");
  } catch (const Error&) {
    return true;
  }
  return false;
}

TEST(Npy, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  const std::int64_t shapes[][2] = {{2, 3}, {6, 1}};
  for (const auto& shape : shapes) {
    write_npy<std::int32_t>(folder / "a", shape, {1, 2, 3, 4, 5, -6});
    const NpyFile array = read_npy(folder / "a");
    EXPECT_EQ(array.shape, (std::vector<std::int64_t>{shape[0], shape[1]}));
    EXPECT_EQ(npy_integers(array, "a"), (std::vector<std::int64_t>{1, 2, 3, 4, 5, -6}));
    EXPECT_THROW(npy_numbers(array, "a"), Error);
    EXPECT_EQ((array.bytes.data() - array.file->bytes().data()) % 64, 0);
  }
  const std::int64_t one[] = {2};
  write_npy<float>(folder / "b", one, {0.5f, 1.5f});
  EXPECT_EQ(npy_numbers(read_npy(folder / "b"), "b"), (std::vector<double>{0.5, 1.5}));
  EXPECT_EQ(read_npy(folder / "b").shape.size(), 1u);
}

TEST(Npy, ReadsInPlaceAndByColumns) {
  const std::string by_columns = "{'descr': '<u2', 'fortran_order': True, 'shape': (2L, 3L), }";
  const auto file = std::make_shared<InputFile>("x", "before" + npy_of(by_columns, "aabbccddeeff"));
  const StoredTensor tensor = npy_tensor(file, 6, file->size() - 6, "a");
  EXPECT_EQ(tensor.strides, (std::vector<std::int64_t>{1, 2}));
  std::string rows(12, '\0');
  read(tensor, std::as_writable_bytes(std::span(rows)));
  EXPECT_EQ(rows, "aacceebbddff");
  EXPECT_THROW(npy_tensor(file, 0, file->size(), "a"), Error);
  EXPECT_THROW(npy_tensor(file, 6, file->size() - 7, "a"), Error);

  const TemporaryFolder folder;
  const std::int64_t shape[] = {2};
  write_npy<std::uint16_t>(folder / "a", shape, {7, 8});
  EXPECT_TRUE(open_npy(folder / "a").is_row_major());
  EXPECT_EQ(open_npy(folder / "a").offset % 64, 0);
}

TEST(Npy, RefusesDamage) {
  EXPECT_FALSE(
      refused(npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "abcd")));
  EXPECT_FALSE(refused(npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "abcd")));
  EXPECT_TRUE(refused(npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "abc")));
  EXPECT_TRUE(
      refused(npy_of("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }", "abcd")));
  EXPECT_TRUE(refused(npy_of("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "abcd")));
  EXPECT_TRUE(refused(npy_of("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "abcd")));
  EXPECT_TRUE(refused(
      npy_of("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "abcd")));
  EXPECT_TRUE(
      refused(npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "abcd")));
  EXPECT_TRUE(refused(
      npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "")));
  EXPECT_TRUE(refused(npy_of("{'descr': '<f4', 'descr': '<f4', 'shape': (1,), }", "abcd")));
  EXPECT_TRUE(refused(npy_of("{'descr': '<f4'}", "abcd")));
  EXPECT_TRUE(refused(npy_of("", "")));
  EXPECT_TRUE(refused("\x93NUMPY"));
  const std::string good =
      npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "abcd");
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_TRUE(refused(good.substr(0, n))) << n;
}

}  // namespace
}  // namespace cresco::formats
