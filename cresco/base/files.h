// Files: whole reads, read-only mappings, writes that appear all at once or not at all, folder
// locks.
//
// A writer's temporary names begin with kTemporaryPrefix and stand in the folder of the result, so
// that the final rename never crosses a file system. Readers ignore such names;
// remove_temporaries() clears what a killed writer left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cresco {

using Path = std::filesystem::path;
using Bytes = std::span<const std::byte>;

inline constexpr std::string_view kTemporaryPrefix = ".tmp-";

inline Bytes as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The whole file. Error when it cannot be read or is larger than `limit_bytes`.
std::string read_file(const Path& path, std::int64_t limit_bytes = std::int64_t{1} << 40);

// A file mapped read-only. Its size is fixed when it is opened; a file that is cut short afterwards
// by somebody else ends the process with SIGBUS, so nothing of ours ever shortens a file in place.
class MappedFile {
 public:
  explicit MappedFile(const Path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  Bytes bytes() const { return {data_, size_}; }
  std::size_t size() const { return size_; }
  const Path& path() const { return path_; }

 private:
  Path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Writes to a temporary name; commit() flushes to the disk and renames. Without commit() the
// temporary is removed and whatever stood at `path` stays as it was.
class AtomicFile {
 public:
  explicit AtomicFile(const Path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(Bytes bytes);
  void write(std::string_view text) { write(as_bytes(text)); }
  std::int64_t size() const { return size_; }
  void commit();

 private:
  Path path_, temporary_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
  std::string buffer_;
  void flush_buffer();
};

void write_file(const Path& path, std::string_view text);  // atomically
// All of it to an open file, whose name is for messages.
void write_all(int descriptor, std::string_view text, const Path& path);

// The same for a folder: fill folder(), then commit(). The place must be free, or `replace` be set.
class AtomicFolder {
 public:
  explicit AtomicFolder(const Path& path);
  ~AtomicFolder();
  const Path& folder() const { return temporary_; }
  void commit(bool replace = false);

 private:
  Path path_, temporary_;
};

// A file that grows at any place of it, for results that a later process may go on with: it stands
// under a name of its own until commit_as() puts it in place.
class OutputFile {
 public:
  OutputFile() = default;
  OutputFile(const Path& path, bool keep);  // `keep`: what stands in it stays
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;

  void resize(std::int64_t num_bytes);  // Error when the disk has no room for that
  void write_at(std::int64_t offset, Bytes bytes);
  void flush_to_disk();
  void commit_as(const Path& path);  // flushed, then renamed

 private:
  Path path_;
  int descriptor_ = -1;
};

// Removes a folder so that a kill in the middle leaves no half of it: it is renamed to a temporary
// first. A folder that is not there is no error.
void remove_folder(const Path& path);

// Whether a path is `folder` or lies in it, links followed.
bool is_within(const Path& path, const Path& folder);

// Removes temporaries that a killed writer left directly in `folder`.
void remove_temporaries(const Path& folder);

// Held while a process works on a folder; a second process gets an Error that names the first.
class FolderLock {
 public:
  explicit FolderLock(const Path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

// The same for one output file: held through <output>.lock, which goes with it.
class OutputLock {
 public:
  explicit OutputLock(const Path& output);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

 private:
  Path path_;
  int descriptor_ = -1;
};

// Makes the output folder of a verb. When it exists and holds anything but a lock: with `overwrite`
// its contents are removed, otherwise an Error. Removed is only what this program made (a manifest
// or its like says so), and never a folder that holds one of the verb's `inputs`.
void make_output_folder(const Path& path, bool overwrite, const std::vector<Path>& inputs = {});
// The same for a single output file: refuses an existing one unless `overwrite` or when it is one
// of the `inputs`; makes its folder.
void make_output_file(const Path& path, bool overwrite, const std::vector<Path>& inputs = {});

}  // namespace cresco
