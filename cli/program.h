// The program around its verbs: command line, settings, progress, errors, exit codes.
#pragma once

#include "cresco/verbs/verb.h"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::cli {

// Values of an option with which another verb is meant: `train --kind matryoshka` is
// `train-sae --class matryoshka`.
struct Handover {
  std::string option;
  std::vector<std::string> values;
  std::string verb, as;
};

struct Verb {
  std::string name;  // "pretrain", or "tokenizer train" for a verb below another
  std::string help;
  // Fields that are given by place; "run?" may be left out.
  std::vector<std::string> positionals;
  Fields fields;
  std::function<void()> reset;  // the fields to their defaults
  std::function<verbs::Outcome(verbs::VerbContext&)> run;
  // The positional, if any, that names a YAML file of the fields, as --config does.
  std::string settings;
  // That file may have arms: the verb has a field `arm`, and `--arm all` runs it for one after the
  // other, each with its folder in --out.
  bool has_arms = false;
  // The text of a named recipe, for verbs with a field `recipe`; everything given wins over it.
  std::function<std::string_view(const std::string&)> recipe;
  bool over_ranks = false;  // mpirun may start several that share the work
  bool any_device = false;  // looks at --device itself, whose GPU need not be here
  Handover handover;
};

template <class Config>
Verb verb(std::string name, std::string help, std::vector<std::string> positionals,
          verbs::Outcome (*run)(const Config&, verbs::VerbContext&)) {
  auto config = std::make_shared<Config>();
  return {std::move(name),
          std::move(help),
          std::move(positionals),
          [config](FieldVisitor& v) { config->fields(v); },
          [config] { *config = Config(); },
          [config, run](verbs::VerbContext& context) { return run(*config, context); }};
}

// The whole of main(): 0 done, 1 the work failed, 2 the command was wrong, 130 interrupted.
int run_program(int argc, char** argv, const std::vector<Verb>& verbs);

}  // namespace cresco::cli
