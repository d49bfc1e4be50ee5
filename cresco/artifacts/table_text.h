// Tables for a terminal: what verbs say of the tables that they write.
#pragma once

#include "cresco/artifacts/table.h"

#include <string>

namespace cresco::artifacts {

// Columns side by side, two spaces between; numbers with at most six digits that count. The exact
// ones are in the file.
std::string to_aligned_text(const Table& table);

// Rows become columns: for tables of few rows and many columns. The first column names them.
Table turned(const Table& table);

}  // namespace cresco::artifacts
