#include "cresco/optim/shards.h"

#include <algorithm>
#include <numeric>

namespace cresco::optim {
namespace {

std::int64_t weight(const ShardItem& item) { return std::max<std::int64_t>(item.state_numbers, 1); }

// By how much each rank is filled up when `amount` more is poured over `loads`.
std::vector<double> level(const std::vector<double>& loads, double amount) {
  std::vector<double> sorted = loads;
  std::sort(sorted.begin(), sorted.end());
  double below = 0, height = 0;
  for (std::size_t n = 1; n <= sorted.size(); ++n) {
    below += sorted[n - 1];
    height = (below + amount) / static_cast<double>(n);
    if (n == sorted.size() || height <= sorted[n]) break;
  }
  std::vector<double> rise;
  for (const double load : loads) rise.push_back(std::max(0.0, height - load));
  return rise;
}

}  // namespace

std::vector<Slice> share_out(const std::vector<ShardItem>& items, int ranks) {
  std::vector<double> loads(static_cast<std::size_t>(ranks));
  std::vector<std::size_t> whole;
  double rest = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].whole)
      whole.push_back(i);
    else
      rest += static_cast<double>(items[i].numel * weight(items[i]));
  }
  std::stable_sort(whole.begin(), whole.end(),
                   [&](auto a, auto b) { return items[a].numel > items[b].numel; });
  std::vector<int> owner_of_whole(items.size());
  for (const std::size_t i : whole) {
    const auto least = std::min_element(loads.begin(), loads.end());
    owner_of_whole[i] = static_cast<int>(least - loads.begin());
    *least += static_cast<double>(items[i].numel * weight(items[i]));
  }

  std::vector<double> ends = level(loads, rest);
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  const auto owner_at = [&](double place) {
    const auto found = std::upper_bound(ends.begin(), ends.end(), place);
    return static_cast<int>(std::min<std::ptrdiff_t>(found - ends.begin(), ranks - 1));
  };
  std::vector<Slice> slices;
  double place = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].whole) {
      slices.push_back({i, 0, items[i].numel, owner_of_whole[i]});
      continue;
    }
    for (std::int64_t begin = 0; begin < items[i].numel; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, items[i].numel);
      const double size = static_cast<double>((end - begin) * weight(items[i]));
      const int owner = owner_at(place + size / 2);
      place += size;
      if (begin > 0 && slices.back().owner == owner)
        slices.back().end = end;
      else
        slices.push_back({i, begin, end, owner});
    }
  }
  return slices;
}

}  // namespace cresco::optim
