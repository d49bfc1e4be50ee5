// What made an output: the command, its settings, its inputs, and where it ran.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace cresco::artifacts {

struct Manifest {
  std::string verb;
  std::vector<std::string> command;  // as it was typed
  Json settings = Json::object();    // every field with its value
  std::vector<Path> inputs;          // files; each is recorded with its size and SHA-256
  std::string device = "cpu", dtype = "fp32";
  Json facts = Json::object();  // what else is worth keeping ("num_documents", ...)
};

// The version of the program that writes: "0.1.0".
std::string version();

// Adds version, host, threads, time and the inputs' hashes. Inputs that are folders are an Error.
Json manifest_json(const Manifest& manifest);

// <folder>/manifest.json, or <file>.manifest.json beside a file.
Path manifest_path(const Path& output);
void write_manifest(const Path& output, const Manifest& manifest);

// The manifest of an output, or null when it has none (somebody else's files).
Json read_manifest(const Path& output);

}  // namespace cresco::artifacts
