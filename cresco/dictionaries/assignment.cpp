#include "cresco/dictionaries/assignment.h"

#include "cresco/base/require.h"
#include "cresco/base/threads.h"

#include <algorithm>
#include <limits>
#include <queue>

namespace cresco::dictionaries {

CandidateLists::CandidateLists(std::int64_t num_rows, std::int64_t num_columns,
                               std::int64_t capacity)
    : num_columns_(num_columns),
      capacity_(std::min(capacity, num_columns)),
      candidates_(static_cast<std::size_t>(num_rows * capacity_)),
      sizes_(static_cast<std::size_t>(num_rows)),
      left_out_(static_cast<std::size_t>(num_rows)) {
  require(capacity >= 1 && num_columns <= std::numeric_limits<std::int32_t>::max(),
          "candidates: {} of {} columns, expected 1 or more of fewer than 2^31", capacity,
          num_columns);
}

std::span<Candidate> CandidateLists::slots(std::int64_t row) {
  return std::span(candidates_)
      .subspan(static_cast<std::size_t>(row * capacity_), static_cast<std::size_t>(capacity_));
}

std::span<const Candidate> CandidateLists::row(std::int64_t i) const {
  return std::span(candidates_)
      .subspan(static_cast<std::size_t>(i * capacity_),
               static_cast<std::size_t>(sizes_[static_cast<std::size_t>(i)]));
}

// A full list is a heap with its worst candidate on top.
void CandidateLists::offer(std::int64_t row, const Candidate& candidate) {
  const std::span<Candidate> list = slots(row);
  std::int64_t& size = sizes_[static_cast<std::size_t>(row)];
  if (size < capacity_) {
    list[static_cast<std::size_t>(size++)] = candidate;
    if (size == capacity_ && capacity_ < num_columns_)
      std::make_heap(list.begin(), list.end(), is_better);
    return;
  }
  left_out_[static_cast<std::size_t>(row)] = true;
  if (!is_better(candidate, list.front())) return;
  std::pop_heap(list.begin(), list.end(), is_better);
  list.back() = candidate;
  std::push_heap(list.begin(), list.end(), is_better);
}

void CandidateLists::sort() {
  parallel_for(num_rows(), [&](std::int64_t i) {
    const auto list = slots(i).first(static_cast<std::size_t>(sizes_[static_cast<std::size_t>(i)]));
    std::sort(list.begin(), list.end(), is_better);
  });
}

double CandidateLists::rest(std::int64_t i) const {
  if (!left_out_[static_cast<std::size_t>(i)]) return 0;
  return std::max(0.0, static_cast<double>(row(i).back().value));
}

namespace {

template <class Values>
decltype(auto) item(Values& values, std::int64_t i) {
  return values[static_cast<std::size_t>(i)];
}

// Columns have prices p >= 0, rows the profit u[i] = max over j of w[i,j] - p[j], and 0 for staying
// alone; an assigned row has the column, or the staying alone, that gives it this profit. Staying
// alone is a column of its own behind the others, of value 0, which no other row wants.
//
// To take in one more row, the shortest path from it to a free column is looked for, the length of
// the way from row i over column j being u[i] - (w[i,j] - p[j]) >= 0: Dijkstra's search. Prices
// then move so that the path has length 0, and every row on it goes one column further. As a list
// is sorted and prices are not negative, w alone says when the rest of it leads nowhere shorter.
class Solver {
 public:
  explicit Solver(const CandidateLists& lists)
      : lists_(lists),
        num_rows_(lists.num_rows()),
        num_columns_(lists.num_columns()),
        price_(static_cast<std::size_t>(num_columns_ + num_rows_)),
        profit_(static_cast<std::size_t>(num_rows_)),
        row_of_(price_.size(), -1),
        column_of_(profit_.size(), -1),
        distance_(price_.size(), kFar),
        before_(price_.size(), -1),
        settled_(price_.size(), false) {}

  void take_in(std::int64_t row) {
    item(profit_, row) = best_profit(row);
    nearest_free_ = -1;
    search_from(row, 0);
    while (!queue_.empty()) {
      const auto [distance, column] = queue_.top();
      queue_.pop();
      if (item(settled_, column)) continue;  // by a shorter way
      if (distance >= free_distance()) break;
      item(settled_, column) = true;
      search_from(item(row_of_, column), distance);
    }
    move_prices(row);
    augment(row);
    clear();
  }

  Assignment result() const {
    Assignment result{.column_of_row = std::vector<std::int64_t>(profit_.size(), -1)};
    // Whatever the search did: no assignment is worth more than all prices and all profits. What a
    // list leaves out gives no more than the list's rest, at the lowest price there is.
    double lowest_price = kFar;
    for (std::int64_t j = 0; j < num_columns_; ++j) {
      lowest_price = std::min(lowest_price, item(price_, j));
      result.upper_bound += item(price_, j);
    }
    for (std::int64_t i = 0; i < num_rows_; ++i) {
      result.upper_bound += std::max(best_profit(i), lists_.rest(i) - lowest_price);
      const std::int64_t column = item(column_of_, i);
      if (column >= num_columns_) continue;
      item(result.column_of_row, i) = column;
      result.total += value(i, column);
    }
    return result;
  }

 private:
  static constexpr double kFar = std::numeric_limits<double>::infinity();
  using Entry = std::pair<double, std::int64_t>;

  double best_profit(std::int64_t row) const {
    double best = 0;
    for (const Candidate& c : lists_.row(row)) {
      if (c.value <= best) break;
      best = std::max(best, c.value - item(price_, c.column));
    }
    return best;
  }

  double value(std::int64_t row, std::int64_t column) const {
    for (const Candidate& c : lists_.row(row))
      if (c.column == column) return c.value;
    return 0;
  }

  double free_distance() const { return nearest_free_ < 0 ? kFar : item(distance_, nearest_free_); }

  void search_from(std::int64_t row, double distance) {
    const double profit = item(profit_, row);
    for (const Candidate& c : lists_.row(row)) {
      if (c.value <= 0 || distance + (profit - c.value) >= free_distance()) break;
      reach(c.column, row, distance, profit - (c.value - item(price_, c.column)));
    }
    reach(num_columns_ + row, row, distance, profit);
  }

  // A way of `length` leads from the row, which is at `so_far`, to the column.
  void reach(std::int64_t column, std::int64_t from_row, double so_far, double length) {
    if (item(settled_, column)) return;
    const double distance = so_far + std::max(length, 0.0);  // rounding may leave a hair less
    if (distance >= item(distance_, column) || distance >= free_distance()) return;
    if (item(distance_, column) == kFar) touched_.push_back(column);
    item(distance_, column) = distance;
    item(before_, column) = from_row;
    if (item(row_of_, column) < 0)
      nearest_free_ = column;
    else
      queue_.emplace(distance, column);
  }

  void move_prices(std::int64_t row) {
    const double length = free_distance();
    item(profit_, row) -= length;
    for (const std::int64_t column : touched_)
      if (item(settled_, column)) {
        const double less = length - item(distance_, column);
        item(price_, column) += less;
        item(profit_, item(row_of_, column)) -= less;
      }
  }

  void augment(std::int64_t row) {
    std::int64_t column = nearest_free_;
    for (;;) {
      const std::int64_t i = item(before_, column), next = item(column_of_, i);
      item(row_of_, column) = i;
      item(column_of_, i) = column;
      if (i == row) return;
      column = next;
    }
  }

  void clear() {
    for (const std::int64_t column : touched_) {
      item(distance_, column) = kFar;
      item(settled_, column) = false;
    }
    touched_.clear();
    queue_ = {};
  }

  const CandidateLists& lists_;
  const std::int64_t num_rows_, num_columns_;
  std::vector<double> price_, profit_;
  std::vector<std::int64_t> row_of_, column_of_;  // of a column; of a row

  // Of the search that is going on.
  std::vector<double> distance_;
  std::vector<std::int64_t> before_;  // the row a column was reached from
  std::vector<bool> settled_;
  std::vector<std::int64_t> touched_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
  std::int64_t nearest_free_ = -1;
};

}  // namespace

Assignment assign(const CandidateLists& lists, const std::function<void(std::int64_t)>& done) {
  Solver solver(lists);
  for (std::int64_t i = 0; i < lists.num_rows(); ++i) {
    solver.take_in(i);
    if (done) done(i + 1);
  }
  return solver.result();
}

}  // namespace cresco::dictionaries
