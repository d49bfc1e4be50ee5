#include "cresco/formats/npz.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/sample_files.h"
#include "cresco/formats/zip_of.h"

#include <gtest/gtest.h>

#include <cstring>

namespace cresco::formats {
namespace {

std::string error_of(const std::string& bytes) {
  try {
    const NpzFile file(std::make_shared<InputFile>("x", bytes));
    for (const StoredTensor& tensor : file.tensors()) read_hex(tensor);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

void expect_error(const std::string& bytes, std::string_view words) {
  EXPECT_NE(error_of(bytes).find(words), std::string::npos) << error_of(bytes) << " / " << words;
}

std::string npy_of(const std::string& shape, const std::string& data,
                   const std::string& type = "<f4") {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + '\0' + header +
         data;
}

TEST(Npz, ReadsWhatNumPyWrote) {
  for (const char* name : {"stored.npz", "deflated.npz"}) {
    const NpzFile file(sample_path(name));
    expect_sample(name, file.tensors());
    EXPECT_EQ(file.tensor("columns").strides, (std::vector<std::int64_t>{1, 2}));
    EXPECT_EQ(file.arrays()[0].entry.is_compressed, std::string(name) == "deflated.npz");
    EXPECT_THROW(file.tensor("column"), Error);
  }
}

TEST(Npz, ReadsStoredArraysInPlace) {
  const auto file = std::make_shared<InputFile>("x", zip_of({{"a.npy", npy_of("(1,)", "abcd")}}));
  const StoredTensor tensor = NpzFile(file).tensor("a");
  EXPECT_EQ(tensor.file, file);
  EXPECT_EQ(file->read_text(tensor.offset, 4), "abcd");
}

TEST(Npz, RefusesWhatIsNoArray) {
  EXPECT_EQ(error_of(zip_of({{"a.npy", npy_of("(1,)", "abcd")}})), "no error");
  expect_error(zip_of({{"a.txt", "hello"}}), "no .npy");
  expect_error(zip_of({{"a.npy", ""}}), "not a .npy");
  expect_error(zip_of({{"a.npy", npy_of("(1,)", "abcd", "|O")}}), "objects are pickles");
  expect_error(zip_of({{"a.npy", npy_of("(1,)", "abcd", ">f4")}}), "big-endian");
  expect_error(zip_of({{"a.npy", npy_of("(1,)", "abcd", "<V2")}}), "bfloat16");
  expect_error(zip_of({{"a.npy", npy_of("(2,)", "abcd")}}), "needs 8");
  expect_error(zip_of({{"../a.npy", npy_of("(1,)", "abcd")}}), "leads out");
}

// Neither side of a lie is inflated: the directory has to agree with deflate's limits, and the
// array's header with the directory.
TEST(Npz, RefusesBombs) {
  const std::string million(1 << 20, '\0');
  const std::string good = zip_of({{"a.npy", npy_of("(262144,)", million), true}});
  EXPECT_EQ(error_of(good), "no error");
  expect_error(zip_of({{"a.npy", npy_of("(1,)", million), true}}), "needs 4");
  expect_error(zip_of({{"a.npy", npy_of("(999999999,)", "abcd"), true}}), "needs 3999999996");
  const std::size_t central = good.find("PK\x01\x02");
  const auto with_size = [&](std::uint32_t size) {
    std::string bad = good;
    std::memcpy(bad.data() + central + 24, &size, sizeof size);
    return bad;
  };
  expect_error(with_size(0xfffffff0), "more than deflate can");
  expect_error(with_size((1 << 20) + 64), "needs 1048576");
}

TEST(Npz, SurvivesEveryDamage) {
  const std::string good =
      zip_of({{"a.npy", npy_of("(1,)", "abcd")}, {"b.npy", npy_of("(2,)", "abcdefgh"), true}});
  EXPECT_EQ(error_of(good), "no error");
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_NE(error_of(good.substr(0, n)), "no error");
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      error_of(bad);
    }
}

TEST(NpzWriter, WritesWhatNpzFileReads) {
  const TemporaryFolder folder;
  const double x[] = {0.5, -1, 2e300};
  const Bytes bytes = std::as_bytes(std::span(x));
  const std::vector<TensorView> arrays{{"a", DType::F64, {3}, bytes},
                                       {"b.c", DType::I32, {2, 3}, bytes},
                                       {"scalar", DType::F32, {}, bytes.first(4)},
                                       {"flags", DType::Bool, {2}, bytes.first(2)},
                                       {"empty", DType::F32, {0, 4}, {}}};
  write_npz(folder / "x.npz", arrays);
  const NpzFile file(folder / "x.npz");
  ASSERT_EQ(file.arrays().size(), arrays.size());
  for (const TensorView& array : arrays) {
    const StoredTensor tensor = file.tensor(array.name);
    EXPECT_EQ(tensor.dtype, array.dtype) << array.name;
    EXPECT_EQ(tensor.shape, array.shape) << array.name;
    EXPECT_EQ(tensor.offset % 64, 0) << array.name;
    std::vector<std::byte> back(array.bytes.size());
    read(tensor, back);
    EXPECT_TRUE(std::equal(back.begin(), back.end(), array.bytes.begin())) << array.name;
  }
  const InputFile zip(folder / "x.npz");
  for (const ZipEntry& entry : read_zip_directory(zip)) read_zip_entry(zip, entry, 1 << 20);

  EXPECT_THROW(write_npz(folder / "y.npz", {{"a", DType::F32, {3}, bytes}}), Error);
  EXPECT_THROW(write_npz(folder / "y.npz", {{"a", DType::BF16, {12}, bytes}}), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "y.npz"));
}

}  // namespace
}  // namespace cresco::formats
