#include "cresco/trajectories/layouts.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/families/neox.h"
#include "cresco/formats/torch_writer.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/stack.h"
#include "cresco/trajectories/trajectory.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace cresco::trajectories {
namespace {

namespace fs = std::filesystem;

families::NeoxConfig tiny() {
  families::NeoxConfig c;
  c.vocab_size = 5;
  c.hidden_size = 4;
  c.num_hidden_layers = 1;
  c.num_attention_heads = 2;
  c.rotary_pct = 1;
  c.intermediate_size = 8;
  return c;
}

std::vector<tensor::NamedTensor> weights_of(double value) {
  std::vector<tensor::NamedTensor> weights;
  for (const auto& spec : families::neox_tensors(tiny()))
    weights.emplace_back(spec.name, at::full(spec.shape, value));
  return weights;
}

void write_model(const Path& folder, double value) {
  fs::create_directories(folder.parent_path());
  write_snapshot(folder, families::neox_to_json(tiny(), "float32", 0), weights_of(value),
                 at::kFloat, false);
}

void write_pt(const Path& path, const std::vector<tensor::NamedTensor>& weights) {
  fs::create_directories(path.parent_path());
  std::vector<formats::TensorView> views;
  for (const auto& [name, tensor] : weights) views.push_back(tensor::view_of(name, tensor));
  formats::write_torch(path, views);
}

double first_of(const Trajectory& trajectory, std::int64_t step, const char* matrix = "W_U") {
  const Snapshot snapshot = trajectory.open(step);
  return snapshot.read(snapshot.resolve(matrix)).flatten()[0].to(at::kDouble).item<double>();
}

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

#define EXPECT_SAYS(act, text)                             \
  do {                                                     \
    const std::string said = error_of([&] { act; });       \
    EXPECT_NE(said.find(text), std::string::npos) << said; \
  } while (false)

using Steps = std::vector<std::int64_t>;

TEST(ParseRevision, KnowsTheNamesOfSteps) {
  EXPECT_EQ(parse_revision("step3000")->step, 3000);
  const auto olmo = parse_revision("stage1-step150-tokens1B");
  EXPECT_EQ(olmo->series, "stage1-");
  EXPECT_EQ(olmo->step, 150);
  const auto soup = parse_revision("stage2-ingredient3-step11931-tokens50B");
  EXPECT_EQ(soup->series, "stage2-ingredient3-");
  EXPECT_EQ(soup->step, 11931);
  for (const char* other : {"main", "step", "step007", "steps", "step1x", "my-step3", "step-1",
                            "stage1-step150-tokensB", "step99999999999999999999"})
    EXPECT_FALSE(parse_revision(other)) << other;
}

TEST(Layouts, FoldersOfSteps) {
  const TemporaryFolder folder;
  for (const int step : {10, 0, 5}) write_model(folder / fmt::format("step{}", step), step);
  fs::create_directory(folder / "step007");
  const Trajectory trajectory(folder.path());
  EXPECT_EQ(trajectory.layout(), "hf_steps");
  EXPECT_EQ(trajectory.steps(), (Steps{0, 5, 10}));
  EXPECT_EQ(first_of(trajectory, 10), 10);
  EXPECT_SAYS(trajectory.open(4), "has no step 4; it has 0, 5, 10");
  EXPECT_SAYS(trajectory.open(0).tensor("embed_out.wieght"), "did you mean 'embed_out.weight'");
  fs::remove(folder / "step5/model.safetensors");
  EXPECT_SAYS(trajectory.open(5), "holds neither model.safetensors nor pytorch_model.bin");
}

TEST(Layouts, FoldersOfOlmosBranches) {
  const TemporaryFolder folder;
  write_model(folder / "stage1-step150-tokens1B", 1);
  write_model(folder / "stage1-step600-tokens3B", 2);
  write_model(folder / "stage2-ingredient1-step150-tokens1B", 3);
  const Trajectory trajectory(folder.path());
  EXPECT_EQ(trajectory.steps(), (Steps{150, 600}));
  EXPECT_EQ(first_of(trajectory, 150), 1);
  ASSERT_EQ(trajectory.notes().size(), 1u);
  EXPECT_NE(trajectory.notes()[0].find("stage2-ingredient1-"), std::string::npos);
}

// Two shards of a model, and the index that says which tensor lies where.
void write_shards(const Path& folder, const std::function<void(Json&)>& change = {}) {
  fs::create_directories(folder);
  write_file(folder / "config.json", families::neox_to_json(tiny(), "float32", 0).dump());
  auto weights = weights_of(1);
  const auto middle = weights.begin() + static_cast<std::ptrdiff_t>(weights.size() / 2);
  Json map;
  for (auto entry = weights.begin(); entry != weights.end(); ++entry)
    map[entry->first] = entry < middle ? "m-1.safetensors" : "m-2.safetensors";
  if (change) change(map);
  tensor::write_tensors(folder / "m-1.safetensors", {weights.begin(), middle});
  std::vector<tensor::NamedTensor> rest(middle, weights.end());
  // A mask that no index names, and another shard's tensor with other numbers.
  rest.emplace_back("gpt_neox.layers.0.attention.masked_bias", at::ones({1}));
  rest.emplace_back(weights[0].first, at::full_like(weights[0].second, 9));
  tensor::write_tensors(folder / "m-2.safetensors", rest);
  write_file(folder / "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
}

TEST(Layouts, Shards) {
  const TemporaryFolder folder;
  write_shards(folder / "step3");
  const Snapshot snapshot = Trajectory(folder.path()).open(3);
  EXPECT_EQ(snapshot.tensors().size(), families::neox_tensors(tiny()).size());
  EXPECT_EQ(snapshot.read("gpt_neox.embed_in.weight").flatten()[0].item<float>(), 1);
  EXPECT_EQ(snapshot.files().size(), 4u);

  const auto opening = [&](const std::function<void(Json&)>& change) {
    write_shards(folder / "step3", change);
    return error_of([&] { Trajectory(folder.path()).open(3); });
  };
  EXPECT_NE(opening([](Json& map) {
              map["embed_out.weight"] = "m-1.safetensors";
            }).find("should hold tensor 'embed_out.weight', but does not"),
            std::string::npos);
  EXPECT_NE(opening([](Json& map) { map["more"] = "m-3.safetensors"; }).find("is not there"),
            std::string::npos);
  EXPECT_NE(
      opening([](Json& map) { map["more"] = "../m.safetensors"; }).find("no name in the folder"),
      std::string::npos);
  EXPECT_NE(opening([](Json& map) { map["more"] = "config.json"; }), "no error");
}

TEST(Layouts, PytorchFilesInFolders) {
  const TemporaryFolder folder;
  write_model(folder / "step3", 1);
  fs::remove(folder / "step3/model.safetensors");
  write_pt(folder / "step3/pytorch_model.bin", weights_of(4));
  const Trajectory trajectory(folder.path());
  EXPECT_EQ(first_of(trajectory, 3), 4);
  EXPECT_EQ(trajectory.open(3).tensors().size(), families::neox_tensors(tiny()).size());
}

// A hub cache: refs name commits, snapshots hold links into blobs.
void write_cached(const Path& cache, const std::string& ref, char digit, double value) {
  const std::string commit(40, digit);
  fs::create_directories((cache / "refs" / ref).parent_path());
  write_file(cache / "refs" / ref, commit);
  const Path snapshot = cache / "snapshots" / commit, blobs = cache / "blobs";
  if (fs::exists(snapshot)) return;
  const Path made = cache / "made";
  write_model(made, value);
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  for (const char* name : {"config.json", "model.safetensors"}) {
    const std::string blob = std::string(1, digit) + name;
    fs::rename(made / name, blobs / blob);
    fs::create_symlink("../../blobs/" + blob, snapshot / name);
  }
  fs::remove(made);
}

TEST(Layouts, AHubCache) {
  const TemporaryFolder folder;
  const Path cache = folder / "models--EleutherAI--pythia-tiny";
  write_cached(cache, "step0", 'a', 1);
  write_cached(cache, "step3000", 'b', 2);
  write_cached(cache, "main", 'b', 2);
  write_file(cache / "refs/step9", std::string(40, 'c'));  // its snapshot was never fetched
  // The cache itself, the hub it stands in, and the home of the hub.
  for (const Path& path : {cache, folder.path()}) {
    const Trajectory trajectory(path);
    EXPECT_EQ(trajectory.layout(), "hf_cache");
    EXPECT_EQ(trajectory.model(), "EleutherAI/pythia-tiny");
    EXPECT_EQ(trajectory.steps(), (Steps{0, 3000}));
    EXPECT_EQ(first_of(trajectory, 3000), 2);
    EXPECT_EQ(trajectory.notes().size(), 1u);
  }
  EXPECT_EQ(open_snapshot(cache).read("embed_out.weight").flatten()[0].item<float>(), 2);
  fs::create_directories(folder / "models--a--b/snapshots");
  EXPECT_SAYS(Trajectory(folder.path()), "caches 2 models");
  // By its commit: the ref says which step that is.
  const Trajectory commit(cache / "snapshots" / std::string(40, 'b'));
  EXPECT_EQ(commit.model(), "EleutherAI/pythia-tiny");
  EXPECT_EQ(commit.steps(), (Steps{3000}));
  // A ref that is no commit is left out.
  write_file(cache / "refs/step0", "../../../etc");
  EXPECT_EQ(Trajectory(cache).steps(), (Steps{3000}));
  EXPECT_EQ(Trajectory(cache).notes().size(), 2u);
  // Without steps it is its main branch.
  fs::remove(cache / "refs/step0");
  fs::remove(cache / "refs/step3000");
  EXPECT_EQ(first_of(Trajectory(cache), 0), 2);
}

TEST(Layouts, ACacheForEachStep) {
  const TemporaryFolder folder;
  for (const int step : {0, 3000})
    write_cached(folder / fmt::format("step{}/models--EleutherAI--tiny", step),
                 fmt::format("step{}", step), 'a', step);
  const Trajectory trajectory(folder.path());
  EXPECT_EQ(trajectory.layout(), "hf_cache");
  EXPECT_EQ(trajectory.steps(), (Steps{0, 3000}));
  EXPECT_EQ(first_of(trajectory, 3000), 3000);
}

TEST(Layouts, LinksStayInsideOrLeadIntoACache) {
  const TemporaryFolder folder;
  write_model(folder / "elsewhere/model", 1);
  write_cached(folder / "hub/models--a--b", "main", 'a', 7);
  const Path steps = folder / "steps";
  fs::create_directories(steps / "step1");
  for (const char* name : {"config.json", "model.safetensors"})
    fs::create_symlink(folder / "elsewhere/model" / name, steps / "step1" / name);
  EXPECT_SAYS(Trajectory(steps).open(1), "is a link that leads out of");
  // A link to a whole folder of a cache is how people arrange what they have downloaded.
  fs::create_directory_symlink(folder / "hub/models--a--b/snapshots" / std::string(40, 'a'),
                               steps / "step2");
  EXPECT_EQ(first_of(Trajectory(steps), 2), 7);
  fs::remove(steps / "step1/model.safetensors");
  fs::create_symlink("nowhere", steps / "step1/model.safetensors");
  EXPECT_NE(error_of([&] { Trajectory(steps).open(1); }), "no error");
}

TEST(Layouts, MatrixFiles) {
  const TemporaryFolder folder;
  const Path flat = folder / "snapshots/pythia-tiny";
  const at::Tensor x = at::ones({5, 4});
  write_pt(flat / "EleutherAI_pythia-tiny_step0_wu.pt", {{"W_U", x}});
  write_pt(flat / "EleutherAI_pythia-tiny_step1000_wu.pt", {{"w_u", 2 * x}});
  write_pt(flat / "EleutherAI_pythia-tiny_step1000_we.pt", {{"", 3 * x}});  // bare
  write_file(flat / "._EleutherAI_pythia-tiny_step2000_wu.pt", "a fork of macOS");
  for (const Path& path : {folder.path(), flat}) {  // with snapshots/<name>/, and flat
    const Trajectory trajectory(path);
    EXPECT_EQ(trajectory.layout(), "wu_pt");
    EXPECT_EQ(trajectory.model(), "EleutherAI_pythia-tiny");
    EXPECT_EQ(trajectory.steps(), (Steps{0, 1000}));
    EXPECT_EQ(first_of(trajectory, 1000), 2);
    EXPECT_EQ(first_of(trajectory, 1000, "W_E"), 3);
  }
  // The canonical place wins over the flat one.
  write_pt(folder / "EleutherAI_pythia-tiny_step0_wu.pt", {{"W_U", 9 * x}});
  write_pt(folder / "EleutherAI_pythia-tiny_step5_wu.pt", {{"W_U", 5 * x}});
  EXPECT_EQ(first_of(Trajectory(folder.path()), 0), 1);
  EXPECT_EQ(first_of(Trajectory(folder.path()), 5), 5);
  write_pt(flat / "other_step0_wu.pt", {{"", 4 * x}});
  EXPECT_SAYS(Trajectory{flat}, "holds matrices of 2 models");
  EXPECT_EQ(first_of(Trajectory(flat / "other"), 0), 4);
}

TEST(Layouts, RecipeControlArms) {
  const TemporaryFolder folder;
  for (const int step : {0, 4769})
    write_pt(folder / fmt::format("baseline/ckpts/step{}/model_fp16.pt", step), weights_of(step));
  for (const char* path : {"baseline", "baseline/ckpts"}) {
    const Trajectory trajectory(folder / path);
    EXPECT_EQ(trajectory.layout(), "recipe_control");
    EXPECT_EQ(trajectory.model(), "baseline");
    EXPECT_EQ(trajectory.steps(), (Steps{0, 4769}));
    EXPECT_EQ(first_of(trajectory, 4769), 4769);
    EXPECT_EQ(first_of(trajectory, 4769, "W_E"), 4769);
  }
}

TEST(Layouts, AStack) {
  const TemporaryFolder folder;
  write_stack(folder / "s.safetensors", {"m", "W_E", {3, 20}, ""},
              {at::full({5, 4}, 1.0f), at::full({5, 4}, 2.0f)});
  const Trajectory trajectory(folder / "s.safetensors");
  EXPECT_EQ(trajectory.layout(), "stack");
  EXPECT_EQ(trajectory.steps(), (Steps{3, 20}));
  EXPECT_EQ(first_of(trajectory, 20, "W_E"), 2);
  EXPECT_NE(error_of([&] { first_of(trajectory, 20, "W_U"); }), "no error");
}

TEST(Layouts, LinksOfTokenizersAreFollowedNoFurther) {
  const TemporaryFolder folder;
  write_model(folder / "steps/step1", 1);
  write_file(folder / "secret", "of somebody");
  fs::create_symlink(folder / "secret", folder / "steps/tokenizer.json");
  EXPECT_SAYS(Trajectory(folder / "steps"), "leads out of");
}

TEST(Layouts, StepsWinOverAModelBesideThem) {
  const TemporaryFolder folder;
  write_model(folder / "m", 1);
  write_model(folder / "m/step4", 2);
  const Trajectory trajectory(folder / "m/");  // with a slash at its end
  EXPECT_EQ(trajectory.layout(), "hf_steps");
  EXPECT_EQ(trajectory.model(), "m");
  EXPECT_EQ(trajectory.steps(), (Steps{4}));
  EXPECT_EQ(trajectory.notes().size(), 1u);
}

TEST(Layouts, SaysWhatWasLookedFor) {
  const TemporaryFolder folder;
  EXPECT_SAYS(Trajectory(folder.path()), "is no trajectory");
  EXPECT_SAYS(Trajectory(folder / "none"), "no such file or folder");
  write_file(folder / "x.txt", "hello");
  EXPECT_NE(error_of([&] { Trajectory(folder / "x.txt"); }), "no error");
}

}  // namespace
}  // namespace cresco::trajectories
