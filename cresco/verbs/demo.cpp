#include "cresco/verbs/demo.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/bigram.h"
#include "cresco/corpora/english.h"
#include "cresco/corpora/synthetic.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/released.h"
#include "cresco/lifecycle/planted.h"
#include "cresco/text/tokenizer.h"
#include "cresco/trajectories/steps.h"
#include "cresco/verbs/eval.h"
#include "cresco/verbs/extract.h"
#include "cresco/verbs/generate.h"
#include "cresco/verbs/lifecycle.h"
#include "cresco/verbs/pretrain.h"
#include "cresco/verbs/recipes.h"
#include "cresco/verbs/report.h"
#include "cresco/verbs/spectra.h"
#include "cresco/verbs/tokenize.h"
#include "cresco/verbs/tokenizer.h"
#include "cresco/verbs/train.h"

#include <yaml-cpp/yaml.h>

#include <cmath>

namespace cresco::verbs {
namespace {

// Says which stage runs and how long all of it will still take, from the stages' usual shares.
class Stages {
 public:
  explicit Stages(Progress& progress) : progress_(progress), started_(now_seconds()) {}

  void begin(const char* name, double seconds_left_usually, double seconds_done_usually) {
    const double elapsed = now_seconds() - started_;
    // This machine's pace against the one the shares were taken on; the first seconds say little of
    // it.
    constexpr double kTrust = 20;
    const double pace = (elapsed + kTrust) / (seconds_done_usually + kTrust);
    progress_.note(fmt::format("[{}] {} (about {} left)", human_duration(elapsed), name,
                               human_duration(pace * seconds_left_usually)));
  }

  double elapsed() const { return now_seconds() - started_; }

 private:
  Progress& progress_;
  double started_;
};

struct Stage {
  const char* name;
  double seconds;  // usually, on two cores
};

// All bytes and a few merges.
constexpr std::int64_t kLeastVocabulary = 260;

class Demo {
 public:
  Demo(const DemoConfig& config, VerbContext& context)
      : config_(config),
        context_(context),
        out_(context.options.out.empty() ? Path("demo") : Path(context.options.out)),
        stages_(context.progress) {}

  Outcome run() {
    for (const std::string& file : config_.text)
      corpora::text_files({file});  // refused before anything is replaced
    const auto plan = this->plan();
    std::filesystem::create_directories(out_);
    const FolderLock lock(out_);
    make_output_folder(out_, context_.options.overwrite,
                       {config_.text.begin(), config_.text.end()});
    DemoConfig settings = config_;
    write_json_file(out_ / "settings.json",
                    fields_to_json([&settings](FieldVisitor& v) { settings.fields(v); }));
    watch_for_interrupts();
    std::size_t at = 0;
    for (const auto& [stage, work] : plan) {
      double done = 0, left = 0;
      for (std::size_t i = 0; i < plan.size(); ++i) (i < at ? done : left) += plan[i].first.seconds;
      stages_.begin(stage.name, left, done);
      try {
        work();
      } catch (const Interrupted&) {
        stop();
      }
      if (interrupted()) stop();
      ++at;
    }
    if (!config_.until.empty())
      return {.summary = {{"until", config_.until}, {"folder", out_.string()}},
              .text = fmt::format("{}: up to {}\n", out_.string(), config_.until)};
    return outcome();
  }

 private:
  [[noreturn]] void stop() const {
    throw Interrupted(
        fmt::format("interrupted; this begins again: {} --overwrite", context_.resume_command()));
  }

  using Work = std::pair<Stage, std::function<void()>>;

  std::vector<Work> plan() {
    const double scale = config_.small ? 0.1 : 1.0;
    std::vector<Work> all{{{"text", 2 * scale}, [this] { gather_text(); }},
                          {{"tokenizer", 3 * scale}, [this] { train_tokenizer(); }},
                          {{"corpus", 2 * scale}, [this] { tokenize(); }},
                          {{"pretrain", 150 * scale}, [this] { pretrain_model(); }},
                          {{"baselines", 2 * scale}, [this] { measure_baselines(); }},
                          {{"continuations", 3 * scale}, [this] { continuations(); }},
                          {{"stack of W_U", 1 * scale}, [this] { extract_stacks(); }},
                          {{"spectra", 2 * scale}, [this] { spectra(); }},
                          {{"crosscoder", 80 * scale}, [this] { train_crosscoder(); }},
                          {{"quality", 5 * scale}, [this] { evaluate(); }},
                          {{"lifecycle", 5 * scale}, [this] { lifecycle(); }},
                          {{"report", 1 * scale}, [this] { report(); }}};
    if (config_.until.empty()) return all;
    std::vector<std::string> names;
    for (const Work& work : all) names.push_back(work.first.name);
    const auto last = std::find(names.begin(), names.end(), config_.until);
    require_usage(last != names.end(), "--until '{}' is not one of {}{}", config_.until,
                  join(names, ", "), did_you_mean(config_.until, names));
    all.resize(static_cast<std::size_t>(last - names.begin()) + 1);
    return all;
  }

  // The context of a verb of the chain: its own output, the rest as the demo's.
  VerbContext context_for(const Path& out) const {
    CommonOptions options = context_.options;
    options.out = out.string();
    options.overwrite = true;
    if (out == dictionary_path() || out == out_ / "quality" || out == out_ / "lifecycle")
      options.device = "cpu";
    return {options, context_.command, context_.progress};
  }

  template <class Config>
  Json call(Outcome (*verb)(const Config&, VerbContext&), const Config& config, const Path& out) {
    VerbContext context = context_for(out);
    return verb(config, context).summary;
  }

  void gather_text() {
    texts_ = config_.text;
    if (!texts_.empty()) {
      source_ = "your text";
      return;
    }
    std::filesystem::create_directories(out_ / "text");
    const std::string missing = config_.synthetic ? "as asked" : corpora::missing_english();
    if (!missing.empty()) {
      context_.progress.note(fmt::format("using the synthetic language: {}", missing));
      source_ = "a synthetic language";
      language_ = corpora::make_language(context_.seed());
      write_text("synthetic", corpora::make_documents(*language_, context_.seed(),
                                                      config_.small ? 3000 : 20000));
      return;
    }
    source_ = "WordNet's entries with examples and the King James Bible";
    auto wordnet = corpora::read_wordnet();
    std::erase_if(wordnet,
                  [](const std::string& entry) { return entry.find('"') == std::string::npos; });
    auto bible = corpora::read_bible();
    if (config_.small) {  // every so many, so that the whole range of the text is there
      thin_out(wordnet, 20);
      thin_out(bible, 20);
    }
    write_text("wordnet", wordnet);
    write_text("bible", bible);
  }

  static void thin_out(std::vector<std::string>& documents, std::size_t every) {
    std::vector<std::string> kept;
    for (std::size_t i = 0; i < documents.size(); i += every)
      kept.push_back(std::move(documents[i]));
    documents = std::move(kept);
  }

  void write_text(const std::string& name, const std::vector<std::string>& documents) {
    std::string lines;
    for (const std::string& document : documents) lines += to_line({{"text", document}}) + "\n";
    const Path path = out_ / "text" / (name + ".jsonl");
    write_file(path, lines);
    texts_.push_back(path.string());
  }

  void train_tokenizer() {
    TokenizerTrainConfig config;
    config.files = texts_;
    config.trainer.vocab_size = config_.vocab_size > 0 ? config_.vocab_size
                                : config_.small        ? 512
                                                       : 2048;
    std::filesystem::create_directories(out_ / "corpus");
    // A short text does not support so many tokens: unless a size was asked for, half as many will
    // do.
    for (;; config.trainer.vocab_size =
                std::max<std::int64_t>(kLeastVocabulary, config.trainer.vocab_size / 2)) {
      try {
        call(run_tokenizer_train, config, tokenizer_path());
        return;
      } catch (const UsageError&) {
        throw;
      } catch (const Error& e) {
        if (config_.vocab_size > 0 || config.trainer.vocab_size == kLeastVocabulary) throw;
        context_.progress.note(e.what());
      }
    }
  }

  void tokenize() {
    TokenizeVerbConfig config;
    config.files = texts_;
    config.tokenizer = tokenizer_path().string();
    corpus_ = call(run_tokenize, config, corpus_prefix());
  }

  void pretrain_model() {
    PretrainVerbConfig config;
    const auto fields = [&config](FieldVisitor& v) { config.settings.fields(v); };
    const std::string_view recipe = config_.small ? recipes::demo_small() : recipes::demo();
    fields_from_yaml(fields, YAML::Load(std::string(recipe)), "recipes/demo.yaml");
    config.settings.data.tokens = corpus_prefix().string();
    config.settings.seed = static_cast<std::int64_t>(context_.seed());
    config.resume = "never";
    recipe_ = config.settings;
    run_ = call(run_pretrain, config, out_ / "run");
    recipe_.model.vocab_size() = text::read_tokenizer(tokenizer_path()).vocab_size();
  }

  void measure_baselines() {
    const pretrain::RunData data = pretrain::RunData::open(recipe_);
    const std::int64_t vocab_size = recipe_.model.vocab_size();
    const corpora::BigramModel bigram(data.sources.front().training.stream(), vocab_size);
    const auto losses =
        bigram.losses(data.validation.front(), pretrain::num_validation_windows(data, recipe_));
    uniform_ = std::log(static_cast<double>(vocab_size));
    bigram_ = losses.bigram;
    artifacts::Table table({"name", "loss", "description"});
    table.add("uniform", uniform_, "log of the vocabulary's size: every token alike");
    table.add("unigram", losses.unigram, "each token by how often it stands in the training text");
    table.add("bigram", bigram_, "interpolated Kneser-Ney: the token before is known");
    const Path out = out_ / "baselines";
    make_output_folder(out, true);
    artifacts::write_csv(out / "baselines.csv", table);
    artifacts::Manifest manifest = manifest_of("demo", config_, context_);
    manifest.inputs = {corpus_prefix().string() + ".bin"};
    manifest.facts = {{"num_tokens", losses.num_tokens}};
    artifacts::write_manifest(out, manifest);
  }

  void continuations() {
    GenerateVerbConfig config;
    config.trajectory = (out_ / "run").string();
    config.prompt = config_.prompt;
    if (config.prompt.empty()) {
      if (language_)
        config.prompt = {' ' + language_->classes[0][0]};
      else if (config_.text.empty())
        config.prompt = {"And God said unto", "dog, domestic dog:"};
      else
        config.prompt = {first_words()};
    }
    config.generate.max_new_tokens = config_.small ? 24 : 40;
    call(run_generate, config, out_ / "continuations");
  }

  // The first few words of the user's text.
  std::string first_words() const {
    const auto documents = corpora::text_files(texts_);
    std::string document;
    documents->next(document);
    const std::string_view start = trim(document);
    std::size_t end = 0;
    for (int words = 0; words < 4 && end < start.size(); ++words)
      end = std::min(start.find(' ', end + 1), start.size());
    return std::string(start.substr(0, std::min<std::size_t>(end, 80)));
  }

  // Every fourth snapshot of the later half is held out of the dictionary's training.
  void extract_stacks() {
    const auto steps = run_["snapshots"].get<std::vector<std::int64_t>>();
    std::vector<std::int64_t> trained, held_out;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const bool hold = i >= steps.size() / 3 && i + 1 < steps.size() && i % 4 == 2;
      (hold ? held_out : trained).push_back(steps[i]);
    }
    extract_to("stack.safetensors", trained);
    extract_to("heldout.safetensors", held_out);
  }

  void extract_to(const char* name, const std::vector<std::int64_t>& steps) {
    ExtractVerbConfig config;
    config.trajectory = (out_ / "run").string();
    config.extract.steps = fmt::format("{}", fmt::join(steps, ","));
    call(run_extract, config, out_ / name);
  }

  void spectra() {
    SpectraConfig config;
    config.inputs = {stack_path().string()};
    config.weights = true;
    call(run_spectra, config, out_ / "spectra");
  }

  void train_crosscoder() {
    TrainConfig config;
    const auto fields = [&config](FieldVisitor& v) { config.training.fields(v); };
    const std::string_view recipe = crosscoder_recipe(config_.small ? "demo-small" : "demo");
    fields_from_yaml(fields, YAML::Load(std::string(recipe)), "recipes/crosscoder/demo.yaml");
    config.stack = stack_path().string();
    config.name = "demo";
    call(run_train, config, dictionary_path());
  }

  void evaluate() {
    EvalConfig config;
    config.dict = (dictionary_path()).string();
    config.stack = stack_path().string();
    config.heldout = (out_ / "heldout.safetensors").string();
    quality_ = call(run_eval, config, out_ / "quality");
  }

  void lifecycle() {
    LifecycleConfig config;
    config.dict = (dictionary_path()).string();
    config.stack = stack_path().string();
    config.tokenizer = tokenizer_path().string();
    lifecycle_ = call(run_lifecycle, config, out_ / "lifecycle");
    if (language_) find_planted();
  }

  void find_planted() {
    const text::Tokenizer tokenizer = text::read_tokenizer(tokenizer_path());
    std::vector<lifecycle::PlantedFeature> planted;
    for (std::size_t c = 0; c < language_->classes.size(); ++c) {
      lifecycle::PlantedFeature feature{fmt::format("class {}: {}", c, language_->classes[c][0]),
                                        {}};
      for (const std::string& word : language_->classes[c])
        if (const auto id = tokenizer.token_id(' ' + word)) feature.rows.push_back(*id);
      planted.push_back(std::move(feature));
    }
    const dictionaries::Dictionary dictionary = dictionaries::read_dictionary(dictionary_path());
    const trajectories::Stack stack(stack_path());
    const auto data =
        dictionaries::preprocess_stack(stack, dictionaries::heads_in(stack, dictionary),
                                       dictionary.training.input_preprocess, at::kCPU);
    const artifacts::Table table = lifecycle::planted_table(
        dictionary.crosscoder(), data.x_VKD, dictionary.parameters.num_heads() - 1, planted);
    for (const double found : table.numbers("found")) found_ += found > 0;
    num_planted_ = static_cast<std::int64_t>(table.num_rows());
    const Path out = out_ / "planted";
    make_output_folder(out, true);
    artifacts::write_csv(out / "planted.csv", table);
    artifacts::write_manifest(out, manifest_of("demo", config_, context_));
  }

  void report() {
    ReportConfig config;
    config.dirs = {out_.string()};
    config.title = "How a small language model grew on " + source_;
    call(run_report, config, out_ / "report.html");
  }

  Outcome outcome() const {
    const double val_loss = run_["val_loss"].get<double>();
    const Json& pooled = quality_["pooled"];
    Outcome outcome;
    outcome.summary = {{"report", (out_ / "report.html").string()},
                       {"seconds", stages_.elapsed()},
                       {"num_tokens", corpus_["num_tokens"]},
                       {"val_loss", val_loss},
                       {"uniform_loss", uniform_},
                       {"bigram_loss", bigram_},
                       {"pooled", pooled},
                       {"alive", lifecycle_["alive"]},
                       {"born", lifecycle_["born"]},
                       {"died", lifecycle_["died"]}};
    if (quality_.contains("heldout")) outcome.summary["heldout"] = quality_["heldout"];
    outcome.text = fmt::format(
        "text: {}, {} tokens\n"
        "validation loss {:.3f} nats: {:.0f} % below log V = {:.3f}, {:.2f} below a bigram model's "
        "{:.3f}\n"
        "crosscoder: explained variance {:.3f} at L0 {:.1f}; {} features alive, {} born, {} died\n",
        source_, corpus_["num_tokens"].get<std::int64_t>(), val_loss,
        100 * (1 - val_loss / uniform_), uniform_, bigram_ - val_loss, bigram_,
        pooled["explained_variance_pooled"].get<double>(), pooled["l0"].get<double>(),
        lifecycle_["alive"].get<std::int64_t>(), lifecycle_["born"].get<std::int64_t>(),
        lifecycle_["died"].get<std::int64_t>());
    if (language_) {
      outcome.summary["planted"] = num_planted_;
      outcome.summary["planted_found"] = found_;
      outcome.text += fmt::format("planted features found: {} of {}\n", found_, num_planted_);
    }
    outcome.text += fmt::format("{} in {}: open it in a browser\n", (out_ / "report.html").string(),
                                human_duration(stages_.elapsed()));
    return outcome;
  }

  Path tokenizer_path() const { return out_ / "corpus" / "tokenizer.json"; }
  Path corpus_prefix() const { return out_ / "corpus" / "corpus"; }
  Path dictionary_path() const { return out_ / "dictionary"; }
  Path stack_path() const { return out_ / "stack.safetensors"; }

  const DemoConfig& config_;
  VerbContext& context_;
  Path out_;
  Stages stages_;

  std::string source_;
  std::vector<std::string> texts_;
  std::optional<corpora::SyntheticLanguage> language_;
  pretrain::Recipe recipe_;
  Json corpus_, run_, quality_, lifecycle_;
  double uniform_ = 0, bigram_ = 0;
  std::int64_t found_ = 0, num_planted_ = 0;
};

}  // namespace

Outcome run_demo(const DemoConfig& config, VerbContext& context) {
  if (context.options.dry_run) {
    const std::string missing = corpora::missing_english();
    return {.text = fmt::format("would run the whole chain on {}\n",
                                !config.text.empty() ? "your text"
                                : config.synthetic || !missing.empty()
                                    ? "the synthetic language"
                                    : "WordNet and the King James Bible")};
  }
  return Demo(config, context).run();
}

}  // namespace cresco::verbs
