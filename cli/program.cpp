#include "cli/program.h"

#include "cresco/artifacts/manifest.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dist/ranks.h"
#include "cresco/tensor/bridge.h"

#include <c10/util/Exception.h>
#include <yaml-cpp/yaml.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <set>
#include <thread>
#include <utility>

namespace cresco::cli {
namespace {

// Options are listed with '-', and '_' is as good: --batch_size is --batch-size.
std::string with_dashes(std::string text) {
  for (char& c : text)
    if (c == '_') c = '-';
  return text;
}

std::string normalised(const std::string& argument) {
  if (!argument.starts_with("--")) return argument;
  const std::size_t end = std::min(argument.find('='), argument.size());
  return with_dashes(argument.substr(0, end)) + argument.substr(end);
}

// `--sweep a=1,2 b=3` is `--sweep a=1,2 --sweep b=3`, as with --set.
std::vector<std::string> spread(const std::vector<std::string>& given) {
  std::vector<std::string> out;
  std::string repeated;
  for (const std::string& word : given) {
    if (word.starts_with("-")) {
      repeated = word == "--sweep" || word == "--set" ? word : "";
    } else if (!repeated.empty() && out.back() != repeated) {
      if (word.find('=') != std::string::npos)
        out.push_back(repeated);
      else
        repeated.clear();
    }
    out.push_back(word);
  }
  return out;
}

// `train --kind matryoshka ...` is `train-sae --class matryoshka ...`.
void hand_over(std::vector<std::string>& words, const std::vector<Verb>& verbs) {
  const auto verb = std::find_if(verbs.begin(), verbs.end(), [&](const Verb& v) {
    return !words.empty() && v.name == words[0] && !v.handover.values.empty();
  });
  if (verb == verbs.end()) return;
  const Handover& to = verb->handover;
  const auto is_value = [&](const std::string& word) {
    return std::find(to.values.begin(), to.values.end(), word) != to.values.end();
  };
  const std::string option = "--" + to.option, as = "--" + to.as;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i] == option && i + 1 < words.size() && is_value(words[i + 1]))
      words[i] = as;
    else if (words[i].starts_with(option + "=") && is_value(words[i].substr(option.size() + 1)))
      words[i] = as + words[i].substr(option.size());
    else
      continue;
    words[0] = to.verb;
    return;
  }
}

// What a field looks like in --help.
const char* type_of(std::int64_t) { return "N"; }
const char* type_of(double) { return "X"; }
const char* type_of(const std::string&) { return "TEXT"; }
const char* type_of(const std::vector<double>&) { return "X,X,..."; }
const char* type_of(const std::vector<std::string>&) { return "TEXT"; }

template <class Value>
std::string default_of(const Value& value) {
  return fmt::format("{}", value);
}
std::string default_of(const std::vector<double>& value) {
  return fmt::format("{}", fmt::join(value, ","));
}
std::string default_of(const std::vector<std::string>& value) { return join(value, " "); }

// The options of some fields, and afterwards the words that were given for them.
class FieldOptions {
 public:
  // A field whose option the command has already is left out.
  FieldOptions(CLI::App& app, const Fields& fields, const std::vector<std::string>& positionals,
               const std::string& group) {
    const std::vector<FieldAlias> aliases = aliases_of(fields);
    EachField each([&](const std::string& path, auto& value, const char* help, const char* unit) {
      if (app.get_option_no_throw("--" + with_dashes(path))) return;
      using Value = std::decay_t<decltype(value)>;
      const std::string text = *unit ? fmt::format("{} [{}]", help, unit) : help;
      const auto place =
          std::find_if(positionals.begin(), positionals.end(),
                       [&](const std::string& name) { return name == path || name == path + "?"; });
      const bool by_place = place != positionals.end();
      std::string names = by_place ? path : "--" + with_dashes(path);
      for (const FieldAlias& alias : aliases) {
        if (alias.path != path || by_place) continue;
        const std::string name = "--" + with_dashes(alias.other);
        if (alias.value.empty()) {
          names += "," + name;
          continue;
        }
        const std::string shown = fmt::format("--{} {}", with_dashes(path), alias.value);
        flags_.push_back({path, alias.value, app.add_flag(name, shown)->group(group)});
      }
      CLI::Option* option = nullptr;
      if constexpr (std::is_same_v<Value, bool>) {
        const std::string shown = text + (value ? " (=false turns it off)" : "");
        option = app.add_flag(names, shown);
      } else {
        constexpr bool many = std::is_same_v<Value, std::vector<std::string>>;
        option = app.add_option(names, CLI::callback_t([](const CLI::results_t&) { return true; }),
                                text);
        option->required(by_place && *place == path)->type_name(type_of(value));
        // `--text A B` takes both, but not where a positional could be meant by B.
        const bool takes_all = many && (by_place || positionals.empty());
        option->expected(1, takes_all ? CLI::detail::expected_max_vector_size : 1);
        option->multi_option_policy(many ? CLI::MultiOptionPolicy::TakeAll
                                         : CLI::MultiOptionPolicy::TakeLast);
        option->allow_extra_args(takes_all);
        const std::string shown = default_of(value);
        if (!shown.empty() && !by_place) option->default_str(shown);
      }
      const std::size_t dot = path.rfind('.');
      if (!by_place) option->group(dot == std::string::npos ? group : path.substr(0, dot));
      options_.emplace_back(path, option);
    });
    fields(each);
  }

  void assign(const Fields& fields) const {
    std::map<std::string, std::vector<std::string>> words;
    for (const auto& [path, option] : options_)
      if (option->count() > 0) words[path] = option->results();
    for (const Flag& flag : flags_)
      if (flag.on()) words.try_emplace(flag.path, std::vector{flag.value});
    assign_fields(fields, words);
  }

  std::set<std::string> given() const {
    std::set<std::string> paths;
    for (const auto& [path, option] : options_)
      if (option->count() > 0) paths.insert(path);
    for (const Flag& flag : flags_)
      if (flag.on()) paths.insert(flag.path);
    return paths;
  }

  // What was given for a field, or "".
  std::string word(const std::string& path) const {
    for (const auto& [name, option] : options_)
      if (name == path && option->count() > 0) return option->results().back();
    return "";
  }

 private:
  // A word for one value of a field; the field's own option wins over it.
  struct Flag {
    std::string path, value;
    CLI::Option* option;
    bool on() const { return option->count() > 0 && option->as<bool>(); }
  };

  std::vector<std::pair<std::string, CLI::Option*>> options_;
  std::vector<Flag> flags_;
};

// One verb on the command line.
struct Command {
  const Verb* verb = nullptr;
  CLI::App* app = nullptr;
  std::unique_ptr<FieldOptions> own, shared;
  std::string config_file;
  std::vector<std::string> assignments;
};

class CommandLine {
 public:
  CommandLine(const std::vector<Verb>& verbs, verbs::CommonOptions& common)
      : app_("The engine for the science of language-model pretraining.", "cresco"),
        common_fields_([&common](FieldVisitor& v) { common.fields(v); }) {
    app_.set_version_flag("--version", "cresco " + artifacts::version());
    app_.require_subcommand(1);
    app_.footer("cresco VERB --help shows a verb's options.");
    for (const Verb& verb : verbs) add(verb);
  }

  // The command that was meant. Throws CLI::ParseError, also for --help and --version.
  Command& parse(const std::vector<std::string>& arguments) {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app_.parse(reversed);
    for (auto& command : commands_)
      if (command->app->parsed()) return *command;
    throw CLI::CallForHelp();
  }

  // Whether it runs for each of its file's arms.
  bool is_of_all_arms(const Command& command) const {
    return command.verb->has_arms && command.own->word("arm") == "all";
  }

  // Those that the command runs for, one after the other; "" where it names none.
  std::vector<std::string> arms(const Command& command) const {
    if (!is_of_all_arms(command)) return {command.verb->has_arms ? command.own->word("arm") : ""};
    const std::string path = command.own->word(command.verb->settings);
    const auto all = SettingsFile(path).arms();
    require_usage(!all.empty(), "{}: has no arms, --arm all needs some", path);
    return all;
  }

  void apply(const Command& command, const std::string& arm) const {
    if (const std::string name = command.verb->recipe ? command.own->word("recipe") : "";
        !name.empty())
      fields_from_yaml(command.verb->fields, YAML::Load(std::string(command.verb->recipe(name))),
                       "recipe " + name);
    if (!command.verb->settings.empty())
      SettingsFile(command.own->word(command.verb->settings)).apply(command.verb->fields, arm);
    if (!command.config_file.empty())
      fields_from_yaml_file(command.verb->fields, command.config_file);
    for (const std::string& assignment : command.assignments) {
      const std::string path = field_of(command, assignment);
      for (const std::string& option : command.own->given())
        require_usage(
            path != option && !option.starts_with(path + ".") && !path.starts_with(option + "."),
            "--set {} and --{}: one setting, given twice", path, with_dashes(option));
      set_field(command.verb->fields, assignment);
    }
    command.own->assign(command.verb->fields);
    if (command.verb->has_arms) set_field(command.verb->fields, "arm=" + arm);
    command.shared->assign(common_fields_);
  }

  // The fields that the command line names for the verb, by an option or --set.
  std::set<std::string> given(const Command& command) const {
    std::set<std::string> paths = command.own->given();
    for (const std::string& assignment : command.assignments)
      paths.insert(field_of(command, assignment));
    return paths;
  }

  int exit(const CLI::ParseError& e) const { return app_.exit(e); }

  // The options or verbs that could have been meant where the parse failed.
  std::vector<std::string> known_names(const std::vector<std::string>& arguments) const {
    const CLI::App* app = &app_;
    for (const std::string& word : arguments)
      for (const CLI::App* below : app->get_subcommands([](const CLI::App*) { return true; }))
        if (below->get_name() == word) {
          app = below;
          break;
        }
    std::vector<std::string> names;
    for (const CLI::Option* option : app->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const CLI::App* below : app->get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(below->get_name());
    return names;
  }

 private:
  // The field that FIELD=VALUE is for, by its own name.
  static std::string field_of(const Command& command, const std::string& assignment) {
    std::string path = assignment.substr(0, assignment.find('='));
    for (const FieldAlias& alias : aliases_of(command.verb->fields))
      if (alias.other == path) path = alias.path;
    return path;
  }

  void add(const Verb& verb) {
    CLI::App* parent = &app_;
    std::string name = verb.name;
    if (const std::size_t space = name.find(' '); space != std::string::npos) {
      const std::string outer = name.substr(0, space);
      name = name.substr(space + 1);
      parent = nullptr;
      for (CLI::App* app :
           app_.get_subcommands([&](const CLI::App* a) { return a->get_name() == outer; }))
        parent = app;
      if (!parent) {
        parent = app_.add_subcommand(outer, outer == "tokenizer"
                                                ? "byte-level BPE and tokenizer.json"
                                                : "what this machine does, beside its own limits");
        parent->require_subcommand(1);
      }
    }
    auto command = std::make_unique<Command>();
    command->verb = &verb;
    command->app = parent->add_subcommand(name, verb.help);
    command->own =
        std::make_unique<FieldOptions>(*command->app, verb.fields, verb.positionals, "Options");
    const std::string group = "Options of every verb";
    command->shared = std::make_unique<FieldOptions>(*command->app, common_fields_,
                                                     std::vector<std::string>{}, group);
    command->app
        ->add_option("--config", command->config_file,
                     "settings from a YAML file; options win over it")
        ->type_name("FILE")
        ->group(group);
    command->app
        ->add_option("--set", command->assignments, "FIELD=VALUE, any field of the config, as YAML")
        ->type_name("FIELD=VALUE")
        ->group(group);
    commands_.push_back(std::move(command));
  }

  CLI::App app_;
  Fields common_fields_;
  std::vector<std::unique_ptr<Command>> commands_;
};

// CLI11's sentence, with the nearest name for what it did not know.
std::string parse_message(const CommandLine& line, const CLI::ParseError& e,
                          const std::vector<std::string>& arguments) {
  std::string message = e.what();
  const bool unknown =
      dynamic_cast<const CLI::ExtrasError*>(&e) || dynamic_cast<const CLI::RequiredError*>(&e);
  if (!unknown) return message;
  const auto known = line.known_names(arguments);
  for (const std::string& word : arguments) {
    const std::string name = word.substr(0, word.find('='));
    const bool is_known = std::find(known.begin(), known.end(), name) != known.end();
    if (name.starts_with("--") && !is_known)
      return fmt::format("unknown option {}{}", name, did_you_mean(name, known));
  }
  if (!arguments.empty() && !arguments[0].starts_with("-")) {
    const auto verbs = line.known_names({});
    if (std::find(verbs.begin(), verbs.end(), arguments[0]) == verbs.end())
      return fmt::format("unknown verb '{}'{}", escape_for_terminal(arguments[0]),
                         did_you_mean(arguments[0], verbs));
  }
  return message;
}

// Errors are one line: LibTorch's end in a trace of its own calls.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// LibTorch says in its own words how much memory it did not get, and no setting that would help.
std::string in_settings(const std::string& said, const Verb* verb) {
  constexpr std::string_view kAsked = "you tried to allocate ";
  const std::size_t at = said.find(kAsked);
  if (at == std::string::npos || !verb) return said;
  const std::string bytes = said.substr(at + kAsked.size());
  std::vector<std::string> smaller;
  EachField each([&](const std::string& path, auto&, const char*, const char*) {
    for (const char* setting : {"d_sae", "batch_size", "block_bytes", "batch.sequences", "context"})
      if (path == setting) smaller.push_back("--" + with_dashes(path));
  });
  verb->fields(each);
  return fmt::format("out of memory: {} bytes asked for, {} are there; try a smaller {}",
                     bytes.substr(0, bytes.find_first_not_of("0123456789")),
                     human_bytes(static_cast<double>(available_bytes())),
                     smaller.empty() ? "input" : join(smaller, " or "));
}

int fail_with(int code, const std::string& message) {
  std::string who = "cresco";
  if (dist::started_ranks() > 1 && !dist::world().first()) {
    // What all ranks find the first one says for all, and ends them.
    std::this_thread::sleep_for(std::chrono::seconds(5));
    who += fmt::format(", rank {}", dist::world().rank());
  }
  std::fputs(fmt::format("{}: {}\n", who, escape_for_terminal(message)).c_str(), stderr);
  dist::give_up(code);
  return code;
}

// The command's verb: once, or for each of the arms, which are all looked at before the first runs.
verbs::Outcome run_command(const CommandLine& line, const Command& command,
                           verbs::CommonOptions& common, const std::vector<std::string>& typed) {
  const Verb& verb = *command.verb;
  const bool over_ranks = verb.over_ranks && dist::started_ranks() > 1;
  const bool first = !over_ranks || dist::world().first();
  const bool all = line.is_of_all_arms(command);
  const std::vector<std::string> arms = line.arms(command);
  const verbs::CommonOptions before = common;
  bool is_configured = false;
  const auto run = [&](const std::string& arm, bool only_looks) {
    common = before;
    verb.reset();
    line.apply(command, arm);
    if (!std::exchange(is_configured, true))
      tensor::configure_threads_and_allocator(common.threads);
    // Ranks of one machine have a GPU each.
    if (over_ranks && common.device == "cuda")
      common.device += fmt::format(":{}", dist::rank_on_host());
    if (!verb.any_device) tensor::parse_device(common.device);
    if (all && !common.out.empty()) {
      require(!std::filesystem::exists(artifacts::manifest_path(common.out)),
              "{}: is an output itself, --arm all makes a folder for each arm in another one",
              common.out);
      common.out = (Path(common.out) / arm).string();
    }
    TextProgress progress(stderr, common.quiet || only_looks || !first);
    if (all) progress.note("arm " + arm);
    verbs::VerbContext context{common, typed, progress, line.given(command)};
    if (over_ranks)
      context.command.insert(context.command.begin(),
                             {"mpirun", "-n", fmt::format("{}", dist::started_ranks())});
    context.options.dry_run = context.options.dry_run || only_looks;
    return verb.run(context);
  };
  if (!all) return run(arms.front(), false);
  for (const std::string& arm : arms) run(arm, true);
  verbs::Outcome outcomes;
  for (const std::string& arm : arms) {
    verbs::Outcome one = run(arm, false);
    outcomes.summary["arms"][arm] = std::move(one.summary);
    outcomes.text += arm + ": " + one.text;
  }
  return outcomes;
}

}  // namespace

int run_program(int argc, char** argv, const std::vector<Verb>& verbs) {
  // A full disk shows as an error of the write, not as a signal.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  verbs::CommonOptions common;
  CommandLine line(verbs, common);
  std::vector<std::string> typed(argv, argv + argc), arguments;
  for (int i = 1; i < argc; ++i) arguments.push_back(normalised(argv[i]));
  arguments = spread(arguments);
  hand_over(arguments, verbs);
  const Verb* verb = nullptr;
  try {
    const Command& command = line.parse(arguments);
    verb = command.verb;
    require_usage(command.verb->over_ranks || dist::started_ranks() == 1,
                  "{} runs as one process, {} were started", command.verb->name,
                  dist::started_ranks());
    const verbs::Outcome outcome = run_command(line, command, common, typed);
    if (command.verb->over_ranks && !dist::world().first()) return outcome.exit_code;
    const std::string out = common.json ? to_line(outcome.summary) + "\n" : outcome.text;
    if (std::fwrite(out.data(), 1, out.size(), stdout) != out.size() || std::fflush(stdout) != 0)
      return fail_with(1, "stdout could not be written to the end");
    return outcome.exit_code;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return line.exit(e);
    return fail_with(2, parse_message(line, e, arguments));
  } catch (const UsageError& e) {
    return fail_with(2, e.what());
  } catch (const Interrupted& e) {
    return fail_with(130, e.what());
  } catch (const c10::Error& e) {
    return fail_with(1, first_line(in_settings(e.what_without_backtrace(), verb)));
  } catch (const std::filesystem::filesystem_error& e) {
    return fail_with(1, fmt::format("{}: {}", e.path1().string(), e.code().message()));
  } catch (const std::bad_alloc&) {
    return fail_with(1, "out of memory");
  } catch (const std::exception& e) {
    return fail_with(1, e.what());
  }
}

}  // namespace cresco::cli
