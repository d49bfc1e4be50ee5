// One-to-one assignment of rows to columns with the largest total value, where a row may also stay
// alone and adds 0: a pair of negative value is never made.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace cresco::dictionaries {

struct Candidate {
  float value = 0;
  std::int32_t column = 0;
};

// The order of candidates: the largest value first, of equal ones the lowest column. No function,
// so that the algorithms it is given to take it in: they spend their time in it.
inline constexpr auto is_better = [](const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.column < b.column);
};

// The `capacity` best candidates of each row, of those that were offered.
class CandidateLists {
 public:
  CandidateLists(std::int64_t num_rows, std::int64_t num_columns, std::int64_t capacity);

  void offer(std::int64_t row, const Candidate& candidate);  // rows may have a thread each
  void sort();  // best first; nothing is offered afterwards

  std::int64_t num_rows() const { return static_cast<std::int64_t>(sizes_.size()); }
  std::int64_t num_columns() const { return num_columns_; }
  std::span<const Candidate> row(std::int64_t i) const;
  // 0 or more, and no value of the row that is not in its list is larger.
  double rest(std::int64_t i) const;

 private:
  std::span<Candidate> slots(std::int64_t row);

  std::int64_t num_columns_, capacity_;
  std::vector<Candidate> candidates_;
  std::vector<std::int64_t> sizes_;
  std::vector<char> left_out_;  // something was offered that is not in the list
};

struct Assignment {
  std::vector<std::int64_t> column_of_row;  // -1: alone
  double total = 0;                         // of the values of the pairs
  // No assignment of all rows and columns, candidates or not, has a larger total. From a dual
  // solution: equal to `total` up to rounding (1e-15 a row) when the lists hold every pair that
  // matters, as they do when they hold all.
  double upper_bound = 0;
};

// The best assignment among the candidates, by shortest augmenting paths (Jonker & Volgenant, "A
// shortest augmenting path algorithm for dense and sparse linear assignment problems", Computing
// 38, 1987), searched in the lists from their best end and no further than a path can still be
// shorter. The lists have to be sorted. `done` is called with the number of rows that are through.
Assignment assign(const CandidateLists& lists,
                  const std::function<void(std::int64_t)>& done = nullptr);

}  // namespace cresco::dictionaries
