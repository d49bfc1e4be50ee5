#include "cresco/dictionaries/legacy_file.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/formats/torch_writer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

constexpr std::int64_t kHeads = 2;

CrosscoderParameters parameters() {
  return {toy::normal({kHeads, 4, 7}, 0, "W_E"), toy::normal({kHeads, 7}, 0, "b_E"),
          toy::normal({kHeads, 7, 4}, 0, "W_D"), toy::normal({kHeads, 4}, 0, "b_D"),
          toy::normal({7}, 0, "threshold")};
}

// As torch.save writes it: `values` with the tensors under state_dict, or at the top.
Path write_pt(const TemporaryFolder& folder, Json values,
              const std::vector<tensor::NamedTensor>& tensors, bool below_state_dict = true) {
  Json state = Json::object();
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorView> views;
  for (const auto& [name, t] : tensors) {
    const std::string stats = "preprocess_stats.";
    Json& object = name.starts_with(stats) ? values["preprocess_stats"] : state;
    object[name.starts_with(stats) ? name.substr(stats.size()) : name] =
        formats::torch_place(kept.size());
    kept.push_back(t.contiguous());
    views.push_back(tensor::view_of(name, kept.back()));
  }
  if (below_state_dict)
    values["state_dict"] = state;
  else
    values.update(state);
  const Path path = folder / "wu_cc.pt";
  formats::write_torch(path, values, views);
  return path;
}

const Json kTraining{{"lr", 2e-5}, {"batch_size", 512}, {"input_preprocess", "center"}};

void expect_right(const Path& path) {
  const Dictionary read = read_dictionary(path);
  EXPECT_EQ(read.name, "wu_cc");
  EXPECT_EQ(read.model_name, "EleutherAI/pythia-1b");
  EXPECT_EQ(read.steps, (std::vector<std::int64_t>{0, 1000}));
  EXPECT_EQ(read.seed, 3);
  EXPECT_EQ(read.training.lr, 2e-5);
  EXPECT_EQ(read.training.batch_size, 512);
  EXPECT_EQ(read.training.input_preprocess, "center");
  EXPECT_EQ(read.quality["mean_l0"], 12.5);
  const auto expected = parameters().named(), found = read.parameters.named();
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(at::equal(found[i].second, expected[i].second)) << expected[i].first;
  EXPECT_EQ(describe_dictionary(path).parameters.num_features(), 7);
  EXPECT_TRUE(at::equal(StoredDecoder(path).rows_FKD(2, 3, {1}).select(1, 0),
                        parameters().decoder_KFD[1].narrow(0, 2, 3)));
}

TEST(LegacyFile, OfATrainingIsRead) {
  const TemporaryFolder folder;
  const Json payload{{"config", {{"act_fn", "jumprelu"}, {"d_sae", 7}}},
                     {"steps", {0, 1000}},
                     {"model_name", "EleutherAI/pythia-1b"},
                     {"seed", 3},
                     {"quality", {{"mean_l0", 12.5}}},
                     {"training", kTraining},
                     {"preprocess_stats", nullptr},
                     {"git_commit", "0123"}};
  expect_right(write_pt(folder, payload, parameters().named()));
  // `model` for model_name, and the training below config.
  Json other = payload;
  other["model"] = other["model_name"];
  other.erase("model_name");
  other["config"]["training"] = other["training"];
  other["config"]["steps"] = other["steps"];
  other.erase("training");
  other.erase("steps");
  expect_right(write_pt(folder, other, parameters().named()));
}

TEST(LegacyFile, KeepsItsMeansAndScales) {
  const TemporaryFolder folder;
  const at::Tensor mean = toy::normal({kHeads, 1, 4}, 0, "mean"),
                   scale = at::tensor({2.f, 3.f}).view({kHeads, 1, 1});
  const auto read = [&](const at::Tensor& means, const at::Tensor& scales) {
    auto tensors = parameters().named();
    tensors.insert(tensors.end(),
                   {{"preprocess_stats.mean", means}, {"preprocess_stats.scale", scales}});
    const Json payload{
        {"steps", {0, 1}}, {"model_name", "m"}, {"preprocess_stats", {{"mode", "center_scale"}}}};
    return read_dictionary(write_pt(folder, payload, tensors));
  };
  // With the axes of 1 and without.
  for (const bool squeezed : {false, true}) {
    const Dictionary d = squeezed ? read(mean.squeeze(1), scale.flatten()) : read(mean, scale);
    ASSERT_EQ(d.statistics.size(), 2u);
    EXPECT_TRUE(at::equal(d.statistics[1].mean_D, mean[1][0]));
    EXPECT_EQ(d.statistics[1].scale, 3);
    EXPECT_EQ(d.training.input_preprocess, "center_scale");
  }
  EXPECT_THROW(read(mean, at::zeros({kHeads})), Error);
  EXPECT_THROW(read(mean, at::ones({kHeads + 1})), Error);
}

TEST(LegacyFile, OfAWrapperIsRead) {
  const TemporaryFolder folder;
  Json training = kTraining;
  training.erase("input_preprocess");
  const Json wrapped{{"steps", {0, 1000}},
                     {"model_name", "EleutherAI/pythia-1b"},
                     {"seed", 3},
                     {"quality", {{"mean_l0", 12.5}}},
                     {"training", training},
                     {"preprocess_mode", "center"},
                     {"config", {{"d_sae", 7}}}};
  expect_right(write_pt(folder, {{"config", wrapped}}, parameters().named()));
  Json broken = wrapped;
  broken["config"]["d_sae"] = 8;
  EXPECT_THROW(read_dictionary(write_pt(folder, {{"config", broken}}, parameters().named())),
               Error);
}

TEST(LegacyFile, OfOneStepIsRead) {
  const TemporaryFolder folder;
  auto tensors = parameters().named();
  for (auto& [name, t] : tensors)
    if (t.dim() > 1) t = t.narrow(0, 0, 1);
  const Path path = write_pt(folder, {{"model_name", "m"}, {"step", 512}}, tensors);
  EXPECT_EQ(read_dictionary(path).steps, std::vector<std::int64_t>{512});
  for (auto& [name, t] : tensors)
    if (t.dim() > 1) t = t[0];
  EXPECT_EQ(read_dictionary(write_pt(folder, {{"model_name", "m"}, {"step", 512}}, tensors))
                .parameters.num_heads(),
            1);
}

TEST(LegacyFile, OfTensorsAloneNeedsTheirLabels) {
  const TemporaryFolder folder;
  const Path path = write_pt(folder, Json::object(), parameters().named(), false);
  EXPECT_THROW(read_dictionary(path), Error);
  const Dictionary read = read_dictionary(path, {"m", "W_E", {0, 5}});
  EXPECT_EQ(read.matrix, "W_E");
  EXPECT_EQ(read.steps, (std::vector<std::int64_t>{0, 5}));
}

std::string message_of(const Path& path) {
  try {
    read_dictionary(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(LegacyFile, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const Json payload{{"steps", {0, 1000}}, {"model_name", "m"}};
  const auto expect = [&](const Json& values, const std::vector<tensor::NamedTensor>& tensors,
                          const char* words) {
    const std::string message = message_of(write_pt(folder, values, tensors));
    EXPECT_NE(message.find(words), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  };
  const auto sound = parameters().named();
  auto tensors = sound;
  tensors.pop_back();
  expect(payload, tensors, "log_jumprelu_threshold");
  tensors = sound;
  tensors[2].second = tensors[2].second.clone();
  tensors[2].second[1][0][0] = INFINITY;
  expect(payload, tensors, "'W_D' holds a number that is not finite");
  tensors = sound;
  tensors[4].second = at::ones({6});
  expect(payload, tensors, "has shape (6), expected (7)");
  expect({{"steps", {0, 1, 2}}, {"model_name", "m"}}, sound, "2 heads, the config names 3 steps");
  expect({{"model_name", "m"}}, sound, "'steps' is missing");
  expect({{"steps", {0, 1000}}}, sound, "model_name");
  Json unknown = payload;
  unknown["config"] = {{"act_fn", "swish"}};
  expect(unknown, sound, "config.act_fn is 'swish'");
  const Path path = write_pt(folder, payload, sound);
  std::filesystem::resize_file(path, 900);
  EXPECT_NE(message_of(path).find("wu_cc.pt"), std::string::npos);
}

}  // namespace
}  // namespace cresco::dictionaries
