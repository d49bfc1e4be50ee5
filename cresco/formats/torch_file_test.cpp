#include "cresco/formats/torch_file.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/sample_files.h"
#include "cresco/formats/torch_writer.h"
#include "cresco/formats/zip_of.h"

#include <gtest/gtest.h>

#include <numeric>

namespace cresco::formats {
namespace {

using namespace std::string_literals;

TEST(TorchFile, ReadsWhatPyTorchWrote) {
  for (const char* name : {"views.pt", "types.pt", "nano_gpt.pt", "deep_speed.pt", "tensor.pt",
                           "protocol_4.pt", "foreign.pt", "views_stream.pt", "nano_gpt_stream.pt"})
    expect_sample(name, TorchFile(sample_path(name)).tensors());
}

TEST(TorchFile, FindsValuesByTheirPaths) {
  for (const char* name : {"nano_gpt.pt", "nano_gpt_stream.pt"}) {
    const TorchFile file(sample_path(name));
    EXPECT_EQ(file.value_at("iter_num").integer, 250);
    EXPECT_EQ(file.value_at("model_args").find("n_embd")->integer, 2);
    EXPECT_EQ(file.value_at("model_args.vocab_size").integer, 4);
    EXPECT_EQ(file.value_at("optimizer.param_groups.0.betas.1").number, 0.95);
    EXPECT_EQ(file.value_at("config.out_dir").text, "out");
    EXPECT_EQ(file.find_value("config.out"), nullptr);
    EXPECT_EQ(file.find_value("optimizer.param_groups.1"), nullptr);
    EXPECT_EQ(&file.value_at(""), &file.root());
    EXPECT_THROW(file.value_at("nothing"), Error);
    EXPECT_EQ(file.tensors_at("model").front().name, "transformer.wte.weight");
    EXPECT_EQ(file.tensors_at("model").size(), 3u);
    EXPECT_EQ(file.tensor("model.lm_head.weight").shape, (std::vector<std::int64_t>{4, 2}));
    EXPECT_EQ(file.tensor("optimizer.state.0.step").shape.size(), 0u);
    EXPECT_THROW(file.tensor("model"), Error);
    EXPECT_THROW(file.tensor("model.lm_head"), Error);
    // NumPy's number is an object to us.
    EXPECT_EQ(file.value_at("best_val_loss").kind, PickleValue::Kind::Object);
  }
  const TorchFile other(sample_path("deep_speed.pt"));
  EXPECT_EQ(other.value_at("dtype").text, "torch.bfloat16");
  EXPECT_EQ(other.value_at("device").text, "cuda:1");
  EXPECT_EQ(other.value_at("shape").items.size(), 2u);
  EXPECT_EQ(other.value_at("past_32_bits").integer, std::int64_t{1} << 40);
  EXPECT_EQ(other.value_at("negative").integer, -5);
  EXPECT_EQ(other.value_at("bytes").text, "\0\xff"s);
  EXPECT_EQ(other.value_at("large").kind, PickleValue::Kind::LargeInt);
  EXPECT_TRUE(other.unknown_globals().empty());
}

TEST(TorchFile, NamesWhatItDoesNotKnow) {
  const TorchFile file(sample_path("foreign.pt"));
  const auto& unknown = file.unknown_globals();
  for (const char* name :
       {"__main__.Foreign", "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_qtensor"})
    EXPECT_TRUE(std::find(unknown.begin(), unknown.end(), name) != unknown.end()) << name;
  const auto message = [&](const char* path) {
    try {
      file.tensor(path);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return "no error"s;
  };
  EXPECT_NE(message("object").find("__main__.Foreign"), std::string::npos);
  EXPECT_NE(message("sparse").find("_rebuild_sparse_tensor"), std::string::npos);
  EXPECT_NE(message("quantized").find("_rebuild_qtensor"), std::string::npos);
  EXPECT_NE(message("double_complex").find("ComplexDoubleStorage"), std::string::npos);
  EXPECT_NE(message("negated").find("metadata"), std::string::npos);
  EXPECT_EQ(message("weight"), "no error");
}

std::string error_of(const std::string& bytes) {
  try {
    const TorchFile file(std::make_shared<InputFile>("x", bytes));
    for (const StoredTensor& tensor : file.tensors()) read_hex(tensor);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

void expect_error(const std::string& bytes, std::string_view words) {
  EXPECT_NE(error_of(bytes).find(words), std::string::npos) << error_of(bytes) << " / " << words;
}

// A tensor of six floats in storage 0, with what stands between offset and end of its arguments.
std::string tensor_of(const std::string& view, const std::string& storage_elements = "K\x06") {
  return "ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x01"
         "0U\x03"
         "cpu" +
         storage_elements + "tQ" + view + "\x89NtR";
}

const std::string kPlain = "K\x00K\x02K\x03\x86K\x03K\x01\x86"s;
const std::string kData(24, '\1');

std::string file_of(const std::string& pickle, const std::string& data = kData) {
  return zip_of({{"top/data.pkl", pickle}, {"top/data/0", data}, {"top/version", "3\n"}});
}

TEST(TorchFile, RefusesTensorsOutsideTheirStorage) {
  const auto view_error = [&](const std::string& view) {
    return error_of(file_of(tensor_of(view) + "."));
  };
  EXPECT_EQ(view_error(kPlain), "no error");
  EXPECT_EQ(view_error("K\x05K\x01\x85K\x07\x85"), "no error");
  EXPECT_EQ(view_error("K\x09K\x00\x85K\x07\x85"s), "no error");  // nothing lies anywhere
  EXPECT_NE(view_error("K\x01K\x02K\x03\x86K\x03K\x01\x86").find("reaches element 6"),
            std::string::npos);
  EXPECT_NE(view_error("K\x06))").find("reaches element 6"), std::string::npos);
  EXPECT_NE(view_error("K\x00K\x02\x85K\x06\x85"s).find("reaches element 6"), std::string::npos);
  const std::string huge = "\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40"s;  // 2^62
  EXPECT_NE(view_error("K\x00"s + huge + "\x85K\x00\x85"s), "no error");
  EXPECT_NE(view_error("K\x00"s + huge + "K\x04\x86K\x00K\x00\x86"s).find("too large"),
            std::string::npos);
  EXPECT_NE(view_error("K\x00K\x03\x85"s + huge + "\x85").find("too large"), std::string::npos);
  EXPECT_NE(view_error(huge + "K\x01\x85K\x01\x85"), "no error");
  // Expanded: refused when it would be large, before memory is asked for.
  EXPECT_EQ(view_error("K\x00M\x00\x10\x85K\x00\x85"s), "no error");
  EXPECT_NE(view_error("K\x00J\x01\x00\x00\x04\x85K\x00\x85"s).find("repeats 24 bytes"),
            std::string::npos);
}

TEST(TorchFile, RefusesStoragesOfOtherSizes) {
  const std::string pickle = tensor_of(kPlain) + ".";
  EXPECT_EQ(error_of(file_of(pickle)), "no error");
  expect_error(file_of(pickle, kData + "more"), "has 28 bytes, 6 elements");
  expect_error(file_of(pickle, kData.substr(1)), "has 23 bytes, 6 elements");
  expect_error(file_of(tensor_of(kPlain, "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f") + "."),
               "too many");
  expect_error(zip_of({{"top/data.pkl", pickle}}), "is not in the file");
}

TEST(TorchFile, RefusesOtherZips) {
  const std::string pickle = tensor_of(kPlain) + ".";
  const auto with = [&](ZipMember member) {
    return zip_of({{"top/data.pkl", pickle}, {"top/data/0", kData}, std::move(member)});
  };
  EXPECT_EQ(error_of(with({"top/byteorder", "little"})), "no error");
  expect_error(with({"top/byteorder", "big"}), "byte order is 'big'");
  expect_error(with({"top/constants.pkl", ""}), "TorchScript");
  expect_error(with({"other/x", ""}), "outside of the zip's one folder");
  expect_error(with({"top/x", kData, true}), "compressed");
  expect_error(zip_of({{"top/x", ""}}), "no data.pkl");
  expect_error(zip_of({{"data.pkl", "N."}}), "one folder");
  expect_error(zip_of({}), "");
  expect_error(file_of(pickle + "N."), "follow the pickle");
  expect_error("\x80\x02N.", "neither as a zip nor");
  expect_error(""s, "neither as a zip nor");
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  expect_error(tar, "tar file");
}

TEST(TorchFile, WalksSharedAndCircularPartsWithinBounds) {
  // A dictionary that holds itself, beside a tensor.
  expect_error(file_of("}q\x00(U\x04selfh\x00U\x01w"s + tensor_of(kPlain) + "u."), "no error");
  // 2^60 paths to one tensor.
  std::string shared = "]q\x00"s + tensor_of(kPlain) + "a";
  for (int i = 1; i <= 60; ++i)
    shared += "0]q"s + char(i) + "(h" + char(i - 1) + "h" + char(i - 1) + "e";
  expect_error(file_of(shared + "."), "too often");
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "]";
  deep += tensor_of(kPlain) + std::string(100, 'a');
  expect_error(file_of(deep + "."), "nested deeper");
  // Two ways to one path.
  expect_error(file_of("}(U\x03"
                       "a.b" +
                       tensor_of(kPlain) +
                       "U\x01"
                       "a}U\x01"
                       "b" +
                       tensor_of(kPlain) + "su."),
               "two tensors are at 'a.b'");
}

TEST(TorchFile, ExecutesNothing) {
  const std::string touch = "cos\nsystem\nU\x1etouch /tmp/cresco_was_here_too\x85R";
  const TorchFile file(
      std::make_shared<InputFile>("x", file_of("}(U\x01"
                                               "a" +
                                               touch + "U\x01w" + tensor_of(kPlain) + "u.")));
  EXPECT_EQ(file.unknown_globals(), std::vector<std::string>{"os.system"});
  EXPECT_EQ(file.tensors().size(), 1u);
  EXPECT_THROW(file.tensor("a"), Error);
  EXPECT_FALSE(std::filesystem::exists("/tmp/cresco_was_here_too"));
}

TEST(TorchFile, RefusesDamagedStreams) {
  const std::string good = read_file(sample_path("views_stream.pt"));
  EXPECT_EQ(error_of(good), "no error");
  for (std::size_t n = 0; n < good.size(); ++n)
    EXPECT_NE(error_of(good.substr(0, n)), "no error") << n;
  expect_error(good + "x", "follow the last storage");
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string bad = good;
    return bad.replace(good.find(from), from.size(), to);
  };
  expect_error(changed("M\xe9\x03", "M\xea\x03"), "known is 1001");
  expect_error(changed("little_endianq\x02\x88", "little_endianq\x02\x89"), "big-endian");
  expect_error(changed("little_endian", "little_indian"), "byte order");
  expect_error(changed("torch\nFloatStorage", "torch\nQIntyStorage"), "");
}

TEST(TorchFile, ReadsPartsOfStreamStorages) {
  const auto stream = [](const std::string& view) {
    return "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.M\xe9\x03.}U\x0dlittle_endian\x88s."s +
           tensor_of("K\x00K\x02\x85K\x01\x85"s, "K\x06U\x01v" + view + "\x87") +
           ".]U\x01"
           "0a." +
           "\x06\0\0\0\0\0\0\0"s + kData.substr(0, 16) + "\2\2\2\2\3\3\3\3";
  };
  EXPECT_EQ(error_of(stream("K\x04K\x02")), "no error");
  const TorchFile file(std::make_shared<InputFile>("x", stream("K\x04K\x02")));
  EXPECT_EQ(read_hex(file.tensors()[0]), "0202020203030303");
  expect_error(stream("K\x05K\x02"), "larger than the storage");
  expect_error(stream("K\x07K\x00"s), "larger than the storage");
  expect_error(stream("K\x04K\x01"), "reaches element 1");
}

TEST(TorchFile, SurvivesEveryDamage) {
  for (const char* name : {"tensor.pt", "nano_gpt_stream.pt"}) {
    const std::string good = read_file(sample_path(name));
    for (std::size_t n = 0; n < good.size(); ++n)
      EXPECT_NE(error_of(good.substr(0, n)), "no error") << n;
    for (std::size_t at = 0; at < good.size(); ++at)
      for (int bit = 0; bit < 8; ++bit) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
        error_of(bad);
      }
  }
}

TEST(TorchFile, NoticesAFileThatChanges) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(sample_path("views.pt"), folder / "a.pt");
  const TorchFile file(folder / "a.pt");
  const StoredTensor tensor = file.tensor("a");
  std::filesystem::resize_file(folder / "a.pt", static_cast<std::uintmax_t>(tensor.offset) + 5);
  EXPECT_THROW(read_hex(tensor), Error);
  EXPECT_THROW(tensor.file->require_unchanged(), Error);
}

TEST(TorchWriter, WritesWhatTorchFileReads) {
  const TemporaryFolder folder;
  std::vector<float> numbers(6);
  std::iota(numbers.begin(), numbers.end(), 0.5f);
  const Bytes bytes = std::as_bytes(std::span(numbers));
  std::vector<TensorView> tensors{
      {"model.w", DType::F32, {2, 3}, bytes}, {"scalar", DType::F64, {}, bytes.first(8)},
      {"empty", DType::I64, {0, 7}, {}},      {"u16", DType::U16, {12}, bytes},
      {"f8", DType::F8_E4M3, {24}, bytes},    {"bool", DType::Bool, {1}, bytes.first(1)}};
  write_torch(folder / "a.pt", tensors);
  const TorchFile file(folder / "a.pt");
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const StoredTensor& tensor = file.tensors()[i];
    EXPECT_EQ(tensor.name, tensors[i].name);
    EXPECT_EQ(tensor.dtype, tensors[i].dtype);
    EXPECT_EQ(tensor.shape, tensors[i].shape);
    EXPECT_EQ(tensor.offset % 64, 0);
    std::vector<std::byte> back(tensors[i].bytes.size());
    read(tensor, back);
    EXPECT_TRUE(std::equal(back.begin(), back.end(), tensors[i].bytes.begin()));
  }
  const InputFile zip(folder / "a.pt");
  for (const ZipEntry& entry : read_zip_directory(zip))
    read_zip_entry(zip, entry, 1 << 20);  // CRC-32

  write_torch_tensor(folder / "b.pt", tensors[0]);
  EXPECT_EQ(TorchFile(folder / "b.pt").tensor("").shape, (std::vector<std::int64_t>{2, 3}));
}

TEST(TorchWriter, KeepsTensorsAmongOtherValues) {
  const TemporaryFolder folder;
  const float x[] = {1, 2, 3};
  const Bytes bytes = std::as_bytes(std::span(x));
  const Json plain = {{"steps", {0, 10, std::int64_t{1} << 40}},
                      {"config", {{"name", "a"}, {"lr", 0.5}, {"tied", true}}},
                      {"nothing", Json::array()}};
  Json values = plain;
  values["rates"] = {{"seed.0", torch_place(1)}, {"seed.1", torch_place(0)}};
  values["config"]["absent"] = nullptr;
  values["pair"] = {torch_place(0), torch_place(1)};
  write_torch(folder / "a.pt", values,
              {{"first", DType::F32, {1}, bytes.first(4)}, {"second", DType::F32, {3}, bytes}});
  const TorchFile file(folder / "a.pt");
  EXPECT_EQ(file.tensor("rates.seed.0").shape, (std::vector<std::int64_t>{3}));
  EXPECT_EQ(file.tensor("rates.seed.1").shape, (std::vector<std::int64_t>{1}));
  EXPECT_EQ(file.tensor("pair.1").offset, file.tensor("rates.seed.0").offset);

  Json read = plain_json(file.root());
  EXPECT_EQ(read["rates"], Json::object());
  EXPECT_EQ(read["pair"], (Json{nullptr, nullptr}));
  read.erase("rates");
  read.erase("pair");
  EXPECT_EQ(read, plain);
}

TEST(TorchWriter, KeepsToItsPromise) {
  const TemporaryFolder folder;
  const float x = 1;
  const Bytes bytes = std::as_bytes(std::span(&x, 1));
  TorchWriter writer(folder / "t", {{"a", DType::F32, {1}, {}}, {"b", DType::F32, {2}, {}}});
  writer.write(bytes);
  EXPECT_THROW(writer.write(bytes), Error);
  EXPECT_THROW(writer.commit(), Error);
  EXPECT_THROW(
      write_torch(folder / "t", {{"a", DType::F32, {1}, bytes}, {"a", DType::F32, {1}, bytes}}),
      Error);
  EXPECT_THROW(write_torch(folder / "t", {{"a", DType::F4, {2}, bytes.first(1)}}), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "t"));
}

}  // namespace
}  // namespace cresco::formats
