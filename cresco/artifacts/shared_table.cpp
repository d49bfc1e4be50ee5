#include "cresco/artifacts/shared_table.h"

#include "cresco/base/require.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace cresco::artifacts {
namespace {

// Held while a row is written; waits for others.
class FolderTurn {
 public:
  explicit FolderTurn(const Path& folder)
      : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    require(descriptor_ >= 0, "{}: cannot be opened as a folder: {}", folder.string(),
            std::strerror(errno));
    while (::flock(descriptor_, LOCK_EX) != 0)
      require(errno == EINTR, "{}: cannot be locked: {}", folder.string(), std::strerror(errno));
  }
  ~FolderTurn() { ::close(descriptor_); }
  FolderTurn(const FolderTurn&) = delete;
  FolderTurn& operator=(const FolderTurn&) = delete;

 private:
  int descriptor_;
};

}  // namespace

void upsert_row(const Path& given, const std::vector<std::string>& columns, const std::string& key,
                const NamedCells& cells) {
  const Path path = std::filesystem::absolute(given);
  require(std::filesystem::is_directory(path.parent_path()), "{}: its folder does not exist",
          given.string());
  const FolderTurn turn(path.parent_path());
  const Table before = std::filesystem::exists(path) ? read_csv(path) : Table(columns);

  std::vector<std::string> all = before.columns();
  for (const auto& [column, cell] : cells)
    if (std::find(all.begin(), all.end(), column) == all.end()) all.push_back(column);
  const auto place = [&](const std::string& column) {
    const auto found = std::find(all.begin(), all.end(), column);
    require(found != all.end(), "{}: has no column '{}'", given.string(), column);
    return static_cast<std::size_t>(found - all.begin());
  };
  const auto with_cells = [&](std::vector<std::string> row) {
    row.resize(all.size());
    for (const auto& [column, cell] : cells) row[place(column)] = cell;
    return row;
  };
  const auto its = std::find_if(cells.begin(), cells.end(),
                                [&](const auto& named) { return named.first == key; });
  require(its != cells.end(), "a row without its '{}'", key);

  Table after(all);
  bool found = false;
  for (std::size_t i = 0; i < before.num_rows(); ++i) {
    std::vector<std::string> row = before.row(i);
    row.resize(all.size());
    const bool is_it = row[place(key)] == its->second;
    found |= is_it;
    after.add_row(is_it ? with_cells(row) : row);
  }
  if (!found) after.add_row(with_cells({}));
  write_csv(path, after);
}

}  // namespace cresco::artifacts
