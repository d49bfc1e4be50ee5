#include "cresco/report/sections/arms.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

namespace cresco::report {

void Look::apply(Series& series) const {
  series.color = color;
  series.repeated = repeated;
}

std::vector<Look> looks_of(const std::vector<Trained>& trained, std::vector<std::string>& palette) {
  std::map<std::string, std::vector<std::string>> seeds;
  for (const Trained& one : trained) seeds[one.arm].push_back(one.seed);
  std::vector<Look> looks;
  std::set<std::string> begun;
  for (const Trained& one : trained) {
    const std::vector<std::string>& own = seeds.at(one.arm);
    const bool differ = std::set(own.begin(), own.end()).size() == own.size();
    const std::string& arm = differ ? one.arm : one.own_name;
    const auto place = std::find(palette.begin(), palette.end(), arm);
    looks.push_back(
        {.arm = arm,
         .name = differ && own.size() > 1 ? fmt::format("{} · seed {}", arm, one.seed) : arm,
         .color = static_cast<int>(place - palette.begin()),
         .repeated = !begun.insert(arm).second});
    if (place == palette.end()) palette.push_back(arm);
  }
  return looks;
}

std::vector<Look> looks_of(const std::vector<Trained>& trained) {
  std::vector<std::string> palette;
  return looks_of(trained, palette);
}

std::string legend_of(const std::vector<Look>& looks) {
  if (looks.size() < 2) return "";
  const bool seeds =
      std::any_of(looks.begin(), looks.end(), [](const Look& look) { return look.repeated; });
  return fmt::format(" {} runs, one colour for each arm{}.", looks.size(),
                     seeds ? "; thin lines are an arm's other seeds" : "");
}

}  // namespace cresco::report
