// Every family against transformers, on the cases of tests/goldens: other fields in config.json,
// and weights stored as bf16 and fp16. The files are opened as a user's are.
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/families/family.h"
#include "cresco/formats/safetensors.h"
#include "cresco/models/gpt2.h"
#include "cresco/models/model.h"
#include "cresco/trajectories/open_snapshot.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

namespace cresco::models {
namespace {

struct Goldens {
  explicit Goldens(const std::string& family)
      : file(Path(CRESCO_SOURCE_DIR) / "tests" / "goldens" / (family + ".safetensors")),
        cases(parse_json(file.metadata().at("cases"), "goldens")) {}
  at::Tensor get(const std::string& name) const { return tensor::to_tensor(file.tensor(name)); }

  // Of a case; the readout's own matrix is left out where the case ties it.
  std::vector<tensor::NamedTensor> weights(at::ScalarType dtype,
                                           const std::string& name = "plain") const {
    const Json& config = cases[name]["config"];
    const bool tied = families::family_of(config, "golden").is_tied(config, "golden");
    std::vector<tensor::NamedTensor> all;
    for (const formats::StoredTensor& stored : file.tensors())
      if (stored.name.starts_with("weight/") && !(tied && stored.name == "weight/lm_head.weight"))
        all.emplace_back(stored.name.substr(7), tensor::to_tensor(stored).to(dtype));
    return all;
  }

  formats::SafetensorsFile file;
  Json cases;
};

void write_folder(const Path& folder, const Json& config,
                  const std::vector<tensor::NamedTensor>& weights) {
  std::filesystem::create_directory(folder);
  write_json_file(folder / "config.json", config);
  tensor::write_tensors(folder / "model.safetensors", weights);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

double relative_error(const at::Tensor& ours, const at::Tensor& golden) {
  return ((ours.to(at::kDouble) - golden).norm() / golden.norm()).item<double>();
}

class FamilyGolden : public testing::TestWithParam<const char*> {};

TEST_P(FamilyGolden, LogitsAgreeInEveryCase) {
  const Goldens goldens(GetParam());
  const TemporaryFolder folder;
  ASSERT_GE(goldens.cases.size(), 5u);
  for (const auto& [name, item] : goldens.cases.items()) {
    const at::ScalarType stored = tensor::scalar_type_named(item["dtype"].get<std::string>());
    write_folder(folder.path() / name, item["config"], goldens.weights(stored, name));
    const trajectories::Snapshot snapshot = trajectories::open_snapshot(folder.path() / name);
    const at::Tensor golden = goldens.get("logits/" + name);
    // transformers makes angles and norms in float32 even for a float64 model: hence not 1e-12.
    for (const auto& [dtype, tolerance] :
         {std::pair(at::kFloat, 1e-5), std::pair(at::kDouble, 1e-6), std::pair(at::kHalf, 5e-3),
          std::pair(at::kBFloat16, 5e-2)}) {
      const at::Tensor logits = load_model(snapshot, dtype)->logits(goldens.get("ids"));
      EXPECT_EQ(logits.scalar_type(), dtype);
      EXPECT_LE(relative_error(logits, golden), tolerance) << name << " " << c10::toString(dtype);
    }
  }
}

TEST_P(FamilyGolden, ShowsItsActivations) {
  const Goldens goldens(GetParam());
  const TemporaryFolder folder;
  write_folder(folder.path() / "plain", goldens.cases["plain"]["config"],
               goldens.weights(at::kDouble));
  const auto model = load_model(trajectories::open_snapshot(folder.path() / "plain"), at::kDouble);
  std::map<std::string, at::Tensor> sum;
  at::Tensor residual, final_norm;
  const at::Tensor ids = goldens.get("ids");
  const at::Tensor logits =
      model->logits(ids, [&](const std::string& name, std::int64_t layer, const at::Tensor& x) {
        EXPECT_EQ(x.sizes(), (at::IntArrayRef{ids.size(0), ids.size(1), 8}));
        sum[name] = sum.contains(name) ? sum[name] + x : x;
        if (name == "resid_post") residual = x;
        if (name == "final_norm") {
          EXPECT_EQ(layer, model->num_layers());
          final_norm = x;
        }
      });
  // What was embedded and what every layer added is what the last layer leaves.
  EXPECT_TRUE(at::allclose(sum["embed"] + sum["attn_out"] + sum["mlp_out"], residual));
  EXPECT_TRUE(at::allclose(sum["resid_post"] + sum["embed"] - residual, sum["resid_pre"]));
  EXPECT_TRUE(at::equal(model->readout(final_norm), logits));
}

TEST_P(FamilyGolden, SeesNothingOfTheFuture) {
  const Goldens goldens(GetParam());
  const TemporaryFolder folder;
  write_folder(folder.path() / "plain", goldens.cases["plain"]["config"],
               goldens.weights(at::kFloat));
  const auto model = load_model(trajectories::open_snapshot(folder.path() / "plain"));
  const at::Tensor a = goldens.get("ids"), b = a.clone();
  b[0][5] = (b[0][5] + 1) % model->vocab_size();
  const at::Tensor before = model->logits(a), after = model->logits(b);
  EXPECT_TRUE(at::allclose(before.slice(1, 0, 5), after.slice(1, 0, 5), 0, 1e-6));
  EXPECT_FALSE(at::allclose(before.slice(1, 5), after.slice(1, 5), 0, 1e-3));
}

TEST_P(FamilyGolden, SaysWhatIsMissingOrDoesNotFit) {
  const Goldens goldens(GetParam());
  const TemporaryFolder folder;
  const Json config = goldens.cases["plain"]["config"];
  const auto error = [&](const std::string& name, const Json& json,
                         const std::vector<tensor::NamedTensor>& weights) -> std::string {
    write_folder(folder.path() / name, json, weights);
    try {
      load_model(trajectories::open_snapshot(folder.path() / name));
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  const auto all = goldens.weights(at::kFloat);
  const auto changed = [&](const auto& change) {
    auto weights = all;
    for (auto& weight : weights) weight.second = change(weight.second);
    return weights;
  };
  auto fewer = all;
  std::erase_if(fewer, [](const auto& weight) { return contains(weight.first, ".1."); });
  EXPECT_TRUE(contains(error("fewer", config, fewer), "are missing, the first is"));
  const auto narrow = [](const at::Tensor& x) { return x.slice(0, 1).contiguous(); };
  EXPECT_TRUE(contains(error("narrow", config, changed(narrow)), "has shape"));
  const auto whole = [](const at::Tensor& x) { return x.to(at::kInt); };
  EXPECT_TRUE(contains(error("whole", config, changed(whole)), "expected floating numbers"));
  Json unknown = config;
  unknown["model_type"] = "mamba";
  EXPECT_TRUE(contains(error("unknown", unknown, all), "'mamba' is not known"));
}

INSTANTIATE_TEST_SUITE_P(, FamilyGolden, testing::Values("gpt2", "olmo2", "neox"),
                         [](const auto& info) { return info.param; });

// torch.save writes a tied matrix under both names, some programs under the readout's alone.
TEST(Tied, MayBeStoredUnderEitherName) {
  for (const auto& [family, name, embedding] :
       {std::tuple("gpt2", "plain", "transformer.wte.weight"),
        std::tuple("olmo2", "tied", "model.embed_tokens.weight")}) {
    const Goldens goldens(family);
    const TemporaryFolder folder;
    const auto logits = [&](const std::string& kind, const auto& weights) {
      write_folder(folder.path() / kind, goldens.cases[name]["config"], weights);
      return load_model(trajectories::open_snapshot(folder.path() / kind))
          ->logits(goldens.get("ids"));
    };
    auto weights = goldens.weights(at::kFloat, name);
    const at::Tensor usual = logits("usual", weights);
    const auto at = std::find_if(weights.begin(), weights.end(),
                                 [&](const auto& weight) { return weight.first == embedding; });
    auto both = weights, differ = weights;
    both.emplace_back("lm_head.weight", at->second.clone());
    differ.emplace_back("lm_head.weight", at->second + 1);
    at->first = "lm_head.weight";
    EXPECT_TRUE(at::equal(logits("readout", weights), usual));
    EXPECT_TRUE(at::equal(logits("both", both), usual));
    EXPECT_THROW(logits("differ", differ), Error);
  }
}

// The same model as nanoGPT stores it: matrices the other way round, biases left out or zero.
TEST(Gpt2, ComputesTheSameFromEitherOrientation) {
  const Goldens goldens("gpt2");
  families::Gpt2Config config =
      families::gpt2_from_json(goldens.cases["plain"]["config"], "golden");
  const auto model = [&](const auto& change) {
    std::vector<tensor::NamedTensor> weights = goldens.weights(at::kFloat);
    for (auto& [name, weight] : weights) change(name, weight);
    return Gpt2(config, weights).logits(goldens.get("ids"));
  };
  const auto is_linear = [](const std::string& name) { return contains(name, ".c_"); };
  const at::Tensor stored = model([](const std::string&, at::Tensor&) {});
  config.conv1d = false;
  const auto turn = [&](const std::string& name, at::Tensor& weight) {
    if (is_linear(name) && weight.dim() == 2) weight = weight.t().contiguous();
  };
  EXPECT_TRUE(at::allclose(model(turn), stored, 1e-5, 1e-6));
  const auto without_bias = [&](const std::string& name, at::Tensor& weight) {
    turn(name, weight);
    if (name.ends_with(".bias")) weight = at::zeros_like(weight);
  };
  const at::Tensor zeros = model(without_bias);
  config.bias = false;
  EXPECT_TRUE(at::allclose(model(without_bias), zeros, 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(zeros, stored, 1e-2, 1e-2));
  EXPECT_THROW(Gpt2(config, goldens.weights(at::kFloat)), Error);
}

TEST(Gpt2, RefusesMorePositionsThanItHas) {
  const Goldens goldens("gpt2");
  const Gpt2 model(families::gpt2_from_json(goldens.cases["plain"]["config"], "golden"),
                   goldens.weights(at::kFloat));
  EXPECT_NO_THROW(model.logits(at::zeros({1, 12}, at::kLong)));
  EXPECT_THROW(model.logits(at::zeros({1, 13}, at::kLong)), Error);
}

}  // namespace
}  // namespace cresco::models
