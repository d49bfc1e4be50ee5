#include "cresco/dictionaries/assignment.h"

#include "cresco/base/json.h"
#include "cresco/base/random.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace cresco::dictionaries {
namespace {

using Values = std::vector<std::vector<float>>;  // of row i and column j

CandidateLists lists_of(const Values& values, std::int64_t capacity = 1 << 30) {
  CandidateLists lists(static_cast<std::int64_t>(values.size()),
                       static_cast<std::int64_t>(values[0].size()), capacity);
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = 0; j < values[i].size(); ++j)
      lists.offer(static_cast<std::int64_t>(i), {values[i][j], static_cast<std::int32_t>(j)});
  lists.sort();
  return lists;
}

// Every assignment there is, rows from `row` on: each takes a free column or none.
double best_of_all(const Values& values, std::size_t row, std::vector<bool>& taken) {
  if (row == values.size()) return 0;
  double best = best_of_all(values, row + 1, taken);
  for (std::size_t j = 0; j < taken.size(); ++j) {
    if (taken[j]) continue;
    taken[j] = true;
    best = std::max(best, double(values[row][j]) + best_of_all(values, row + 1, taken));
    taken[j] = false;
  }
  return best;
}

// One-to-one, of positive values, and worth what it says.
void expect_sound(const Assignment& assignment, const Values& values) {
  std::set<std::int64_t> columns;
  double total = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::int64_t j = assignment.column_of_row[i];
    if (j < 0) continue;
    EXPECT_TRUE(columns.insert(j).second) << "column " << j << " twice";
    EXPECT_GT(values[i][static_cast<std::size_t>(j)], 0);
    total += values[i][static_cast<std::size_t>(j)];
  }
  EXPECT_NEAR(assignment.total, total, 1e-9);
  EXPECT_GE(assignment.upper_bound, assignment.total - 1e-9);
}

// Cosines of nothing in particular, rounded so that some are equal when `levels` is small.
Values random_values(std::size_t rows, std::size_t columns, std::uint64_t seed, int levels) {
  RandomStream random(seed, "values");
  Values values(rows, std::vector<float>(columns));
  for (auto& row : values)
    for (float& value : row)
      value = static_cast<float>(random.below(static_cast<std::uint64_t>(2 * levels + 1))) /
                  static_cast<float>(levels) -
              1;
  return values;
}

TEST(Assignment, IsTheBestOfAll) {
  for (std::uint64_t seed = 0; seed < 60; ++seed)
    for (const auto& [rows, columns] : {std::pair{6, 6}, {5, 8}, {7, 4}, {1, 5}, {5, 1}})
      for (const int levels : {2, 1000}) {
        SCOPED_TRACE(testing::Message() << seed << ": " << rows << " x " << columns);
        const Values values = random_values(static_cast<std::size_t>(rows),
                                            static_cast<std::size_t>(columns), seed, levels);
        std::vector<bool> taken(static_cast<std::size_t>(columns));
        const double best = best_of_all(values, 0, taken);
        const Assignment assignment = assign(lists_of(values));
        expect_sound(assignment, values);
        EXPECT_NEAR(assignment.total, best, 1e-9);
        EXPECT_NEAR(assignment.upper_bound, best, 1e-9);

        // With few candidates there may be something better, but never beyond the bound.
        const Assignment sparse = assign(lists_of(values, 2));
        expect_sound(sparse, values);
        EXPECT_LE(sparse.total, best + 1e-9);
        EXPECT_GE(sparse.upper_bound, best - 1e-9);
      }
}

TEST(Assignment, MayBeLessThanTheBound) {
  // Both rows want column 0 first; only the second best of row 1, left out here, is worth much.
  const Values values = {{0.9f, 0.1f}, {0.8f, 0.7f}};
  const Assignment exact = assign(lists_of(values));
  EXPECT_EQ(exact.column_of_row, (std::vector<std::int64_t>{0, 1}));
  EXPECT_NEAR(exact.total, 1.6, 1e-6);
  const Assignment sparse = assign(lists_of(values, 1));
  EXPECT_EQ(sparse.column_of_row, (std::vector<std::int64_t>{0, -1}));
  EXPECT_NEAR(sparse.total, 0.9, 1e-6);
  EXPECT_GE(sparse.upper_bound, 1.6 - 1e-6);
}

TEST(Assignment, LeavesAloneWhatOnlyLoses) {
  const Assignment assignment = assign(lists_of({{-0.5f, 0.0f}, {-0.1f, -0.2f}}));
  EXPECT_EQ(assignment.column_of_row, (std::vector<std::int64_t>{-1, -1}));
  EXPECT_EQ(assignment.total, 0);
  EXPECT_EQ(assignment.upper_bound, 0);
}

TEST(Assignment, HasTheTotalsOfScipy) {
  const Json golden = read_json_file(Path(CRESCO_SOURCE_DIR) / "tests/goldens/assignment.json");
  ASSERT_GE(golden["cases"].size(), 6u);
  for (const Json& one : golden["cases"]) {
    SCOPED_TRACE(one["name"].get<std::string>());
    const auto rows = one["rows"].get<std::size_t>(), columns = one["columns"].get<std::size_t>();
    // Integers that both sides make by the same rule, so that totals are exact.
    Values values(rows, std::vector<float>(columns));
    for (std::uint64_t i = 0; i < rows; ++i)
      for (std::uint64_t j = 0; j < columns; ++j)
        values[i][j] = static_cast<float>(
            static_cast<std::int64_t>(((i * 7919 + j * 104729 + i * i * j * 31 + (i ^ j) * 13) %
                                       one["modulus"].get<std::uint64_t>())) -
            one["subtract"].get<std::int64_t>());
    const Assignment assignment = assign(lists_of(values));
    expect_sound(assignment, values);
    EXPECT_EQ(assignment.total, one["total"].get<double>());
    EXPECT_NEAR(assignment.upper_bound, assignment.total, 1e-6);
  }
}

TEST(CandidateLists, KeepTheBest) {
  const Values values = random_values(3, 50, 7, 5);  // 11 levels: many are equal
  const CandidateLists all = lists_of(values), few = lists_of(values, 6);
  for (std::int64_t i = 0; i < 3; ++i) {
    ASSERT_EQ(all.row(i).size(), 50u);
    ASSERT_EQ(few.row(i).size(), 6u);
    for (std::size_t c = 0; c < 6; ++c) {
      EXPECT_EQ(few.row(i)[c].column, all.row(i)[c].column);
      EXPECT_EQ(few.row(i)[c].value, values[std::size_t(i)][std::size_t(few.row(i)[c].column)]);
    }
    EXPECT_TRUE(std::is_sorted(all.row(i).begin(), all.row(i).end(), is_better));
    EXPECT_EQ(all.rest(i), 0);
    EXPECT_EQ(few.rest(i), few.row(i)[5].value);
  }
}

}  // namespace
}  // namespace cresco::dictionaries
