// A CSV that many runs write a row of.
#pragma once

#include "cresco/artifacts/table.h"

#include <string>
#include <utility>
#include <vector>

namespace cresco::artifacts {

// Column and cell, of those columns that are known.
using NamedCells = std::vector<std::pair<std::string, std::string>>;

// The row whose cell of `key` is that of `cells` gets these cells and keeps its others; without one
// there is a new row. A table that does not exist begins with `columns`; columns that it does not
// have are added, and those it has beside them stay. Written atomically; writers of one folder take
// turns. Error when the folder does not exist or the file is no table.
void upsert_row(const Path& path, const std::vector<std::string>& columns, const std::string& key,
                const NamedCells& cells);

}  // namespace cresco::artifacts
