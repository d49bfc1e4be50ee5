#include "cresco/formats/llmc.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

namespace cresco::formats {
namespace {

constexpr LlmcHeader kSmall{DType::F32, 4, 3, 2, 2, 4, 8};

// Tensor number n of the file's order is full of n's.
void write_numbered(const Path& path, const LlmcHeader& header) {
  LlmcWriter writer(path, header);
  std::uint8_t number = 1;
  for (const TensorView& tensor : writer.tensors())
    writer.write(std::vector<std::byte>(
        static_cast<std::size_t>(num_bytes(tensor.dtype, tensor.shape).value()),
        std::byte{number++}));
  writer.commit();
}

std::string error_of(const std::string& bytes) {
  try {
    const LlmcFile file(std::make_shared<InputFile>("x", bytes));
    for (const StoredTensor& tensor : file.tensors()) {
      std::vector<std::byte> numbers(static_cast<std::size_t>(tensor.num_bytes()));
      read(tensor, numbers);
    }
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Llmc, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  for (const DType dtype : {DType::F32, DType::BF16}) {
    LlmcHeader header = kSmall;
    header.dtype = dtype;
    write_numbered(folder / "m.bin", header);
    const LlmcFile file(folder / "m.bin");
    EXPECT_EQ(file.header().dtype, dtype);
    EXPECT_EQ(file.header().padded_vocab_size, 8);
    EXPECT_EQ(file.tensors().size(), 2u + 2 * 12 + 2);
    const auto first_byte = [&](const char* name) {
      const StoredTensor& tensor = tensor_named(file.tensors(), name, "m.bin");
      std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.num_bytes()));
      read(tensor, bytes);
      EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [&](auto b) { return b == bytes[0]; }))
          << name;
      return static_cast<int>(bytes[0]);
    };
    // The order of llm.c: wte, wpe, then each kind over all layers.
    EXPECT_EQ(first_byte("transformer.wte.weight"), 1);
    EXPECT_EQ(first_byte("transformer.wpe.weight"), 2);
    EXPECT_EQ(first_byte("transformer.h.0.ln_1.weight"), 3);
    EXPECT_EQ(first_byte("transformer.h.1.ln_1.weight"), 4);
    EXPECT_EQ(first_byte("transformer.h.0.attn.c_attn.weight"), 7);
    EXPECT_EQ(first_byte("transformer.h.1.mlp.c_proj.bias"), 26);
    EXPECT_EQ(first_byte("transformer.ln_f.weight"), 27);
    EXPECT_EQ(first_byte("transformer.ln_f.bias"), 28);
    EXPECT_EQ(tensor_named(file.tensors(), "transformer.wte.weight", "m").shape,
              (std::vector<std::int64_t>{3, 4}));
    EXPECT_EQ(tensor_named(file.tensors(), "transformer.h.0.attn.c_attn.weight", "m").shape,
              (std::vector<std::int64_t>{12, 4}));
    EXPECT_EQ(tensor_named(file.tensors(), "transformer.h.0.mlp.c_proj.weight", "m").shape,
              (std::vector<std::int64_t>{4, 16}));
  }
}

// The positions of llm.c's own reader (gpt2.c), for its 124M model: V 50257, Vp 50304, T 1024, C
// 768.
TEST(Llmc, HasTheSizeOfTheKnownModel) {
  const auto tensors = llmc_tensors({DType::F32, 1024, 50257, 12, 12, 768, 50304});
  std::int64_t numbers = (50304 - 50257) * 768;
  for (const TensorView& tensor : tensors) numbers += num_elements(tensor.shape).value();
  EXPECT_EQ(numbers, 124475904);
}

TEST(Llmc, RefusesDamage) {
  const TemporaryFolder folder;
  write_numbered(folder / "m.bin", kSmall);
  const std::string good = read_file(folder / "m.bin");
  EXPECT_EQ(error_of(good), "no error");
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_NE(error_of(good.substr(0, n)), "no error");
  EXPECT_NE(error_of(good + "x").find("incomplete copy"), std::string::npos);
  const auto with = [&](int field, std::int32_t value) {
    std::string bad = good;
    std::memcpy(bad.data() + 4 * field, &value, sizeof value);
    return error_of(bad);
  };
  EXPECT_NE(with(0, 20240520).find("begins with 20240520"), std::string::npos);
  EXPECT_NE(with(1, 1).find("version 1"), std::string::npos);
  for (int field = 2; field <= 7; ++field)
    for (const std::int32_t value : {0, -1, INT32_MAX})
      EXPECT_NE(with(field, value), "no error") << field;
  EXPECT_NE(with(5, 3).find("split into 3 heads"), std::string::npos);
  EXPECT_NE(with(3, 9).find("8 rows for a vocabulary of 9"), std::string::npos);
  for (std::size_t at = 0; at < 32; ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      error_of(bad);
    }
}

TEST(Llmc, WriterKeepsToItsHeader) {
  const TemporaryFolder folder;
  LlmcWriter writer(folder / "m.bin", kSmall);
  EXPECT_THROW(writer.commit(), Error);
  EXPECT_THROW(writer.write(Bytes{}), Error);
  LlmcHeader bad = kSmall;
  bad.dtype = DType::F16;
  EXPECT_THROW(LlmcWriter(folder / "m.bin", bad), Error);
  bad = kSmall;
  bad.num_layers = 1'000'000;
  EXPECT_THROW(LlmcWriter(folder / "m.bin", bad), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "m.bin"));
}

}  // namespace
}  // namespace cresco::formats
