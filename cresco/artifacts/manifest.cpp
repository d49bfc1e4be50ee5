#include "cresco/artifacts/manifest.h"

#include "cresco/base/hash.h"
#include "cresco/base/input_file.h"
#include "cresco/base/json.h"
#include "cresco/base/progress.h"
#include "cresco/base/require.h"
#include "cresco/base/threads.h"

#include <unistd.h>

namespace cresco::artifacts {

std::string version() { return CRESCO_VERSION; }

Json manifest_json(const Manifest& manifest) {
  Json inputs = Json::array();
  for (const Path& path : manifest.inputs) {
    inputs.push_back({{"path", path.string()},
                      {"bytes", InputFile(path).size()},
                      {"sha256", sha256_of_file(path)}});
  }
  char host[256] = "unknown";
  ::gethostname(host, sizeof host - 1);
  Json out;
  out["verb"] = manifest.verb;
  out["command"] = manifest.command;
  out["version"] = version();
  out["written"] = utc_time();
  out["host"] = host;
  out["device"] = manifest.device;
  out["dtype"] = manifest.dtype;
  out["threads"] = num_threads();
  out["settings"] = manifest.settings;
  out["settings_sha256"] = sha256_hex(as_bytes(to_line(manifest.settings)));
  out["inputs"] = std::move(inputs);
  out["facts"] = manifest.facts;
  return out;
}

Path manifest_path(const Path& output) {
  if (std::filesystem::is_directory(output)) return output / "manifest.json";
  return output.string() + ".manifest.json";
}

void write_manifest(const Path& output, const Manifest& manifest) {
  write_json_file(manifest_path(output), manifest_json(manifest));
}

Json read_manifest(const Path& output) {
  const Path path = manifest_path(output);
  return std::filesystem::exists(path) ? read_json_file(path) : Json();
}

}  // namespace cresco::artifacts
