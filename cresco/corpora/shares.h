// Several sources in one sequence, each with its share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cresco::corpora {

// Which source stands at which place, as a function of the place alone: the next place goes to the
// source for which (n + 1/2) / w is least, n the places it has had and w its share (the first of
// those that are level). That is the order in which the method of Webster and Sainte-Lague gives
// seats. After any number N of k sources' places each has had w N of them but for 1/2 + w k/2 at
// most. Nothing is replayed to find a place: n is w N rounded, and a few steps from there.
class Shares {
 public:
  // Weights of any sum. UsageError unless there is one and all are finite and above 0.
  explicit Shares(std::vector<double> weights);

  struct Place {
    std::size_t source = 0;
    std::int64_t index = 0;  // how many of the source's own came before
    bool operator==(const Place&) const = default;
  };
  Place at(std::int64_t place) const;
  // How many of the first `places` each source has.
  std::vector<std::int64_t> counts(std::int64_t places) const;

  std::size_t num_sources() const { return shares_.size(); }
  double share(std::size_t source) const { return shares_[source]; }

 private:
  // When the source's place `index` comes, in units of places.
  double time(std::size_t source, std::int64_t index) const;
  std::size_t next(const std::vector<std::int64_t>& counts) const;
  std::size_t latest(const std::vector<std::int64_t>& counts) const;

  std::vector<double> shares_;  // of sum 1
};

}  // namespace cresco::corpora
