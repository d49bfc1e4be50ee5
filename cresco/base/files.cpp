#include "cresco/base/files.h"

#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace cresco {
namespace {

constexpr const char* kLockName = ".lock";

std::string cause(int error) {
  switch (error) {
    case ENOENT:
      return "no such file or folder";
    case EACCES:
    case EPERM:
      return "permission denied";
    case ENOSPC:
      return "the disk is full";
    case EDQUOT:
      return "the disk quota is used up";
    case EFBIG:
      return "the file is larger than this process may write (ulimit -f)";
    case EROFS:
      return "the file system is read-only";
    default:
      return std::strerror(error);
  }
}

// `done` is the outcome of a system call: its cause is read here, after the call, and not among the
// arguments, whose order is anybody's guess.
void require_done(bool done, const Path& path, const char* what) {
  if (!done) [[unlikely]] {
    const std::string why = cause(errno);
    fail("{}: {}{}", path.string(), what, why);
  }
}

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }

 private:
  int value_;
};

std::int64_t open_size(const Descriptor& file, const Path& path) {
  require_done(file.get() >= 0, path, "");
  struct stat status {};
  require_done(::fstat(file.get(), &status) == 0, path, "");
  require(!S_ISDIR(status.st_mode), "{}: is a folder, expected a file", path.string());
  return S_ISREG(status.st_mode) ? status.st_size : -1;
}

Path temporary_beside(const Path& path) {
  static std::atomic<int> count{0};
  const Path folder = path.has_parent_path() ? path.parent_path() : Path(".");
  return folder /
         fmt::format("{}{}.{}.{}", kTemporaryPrefix, path.filename().string(), ::getpid(), count++);
}

// Removes what writers of this very file left that were killed.
void remove_abandoned(const Path& path) {
  const Path folder = path.has_parent_path() ? path.parent_path() : Path(".");
  const std::string prefix = fmt::format("{}{}.", kTemporaryPrefix, path.filename().string());
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const int writer = std::atoi(name.c_str() + prefix.size());
    if (writer > 0 && ::kill(writer, 0) != 0 && errno == ESRCH)
      std::filesystem::remove_all(entry.path(), error);
  }
}

void sync_folder(const Path& path) {
  const Path folder = path.has_parent_path() ? path.parent_path() : Path(".");
  const Descriptor file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.get() >= 0) ::fsync(file.get());
}

void rename_over(const Path& from, const Path& to) {
  require_done(::rename(from.c_str(), to.c_str()) == 0, to, "cannot be put in place: ");
  sync_folder(to);
}

}  // namespace

void write_all(int descriptor, std::string_view text, const Path& path) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    require_done(written >= 0, path, "cannot be written: ");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::string read_file(const Path& path, std::int64_t limit_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const std::int64_t size = open_size(file, path);
  require(size <= limit_bytes, "{}: {} bytes, more than the {} expected of such a file",
          path.string(), size, limit_bytes);
  std::string text;
  if (size > 0) text.reserve(static_cast<std::size_t>(size));
  char chunk[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.get(), chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    require(got >= 0, "{}: {}", path.string(), cause(errno));
    if (got == 0) return text;
    text.append(chunk, static_cast<std::size_t>(got));
    require(static_cast<std::int64_t>(text.size()) <= limit_bytes,
            "{}: more than the {} bytes expected", path.string(), limit_bytes);
  }
}

MappedFile::MappedFile(const Path& path) : path_(path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not wait.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const std::int64_t size = open_size(file, path);
  require(size >= 0, "{}: is not a regular file", path.string());
  size_ = static_cast<std::size_t>(size);
  if (size_ == 0) return;  // mmap refuses an empty range
  void* const address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  require(address != MAP_FAILED, "{}: cannot be mapped: {}", path.string(), cause(errno));
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

AtomicFile::AtomicFile(const Path& path) : path_(path), temporary_(temporary_beside(path)) {
  remove_abandoned(path);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  require_done(descriptor_ >= 0, path_, "cannot be written: ");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(Bytes bytes) {
  constexpr std::size_t kBuffer = 1 << 20;
  if (bytes.size() < kBuffer) {
    buffer_.append(as_text(bytes));
    if (buffer_.size() >= kBuffer) flush_buffer();
  } else {
    flush_buffer();
    write_all(descriptor_, as_text(bytes), path_);
  }
  size_ += static_cast<std::int64_t>(bytes.size());
}

void AtomicFile::flush_buffer() {
  write_all(descriptor_, buffer_, path_);
  buffer_.clear();
}

void AtomicFile::commit() {
  flush_buffer();
  require_done(::fsync(descriptor_) == 0, path_, "cannot be flushed: ");
  require_done(::close(std::exchange(descriptor_, -1)) == 0, path_, "cannot be closed: ");
  rename_over(temporary_, path_);
}

void write_file(const Path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

AtomicFolder::AtomicFolder(const Path& path) : path_(path), temporary_(temporary_beside(path)) {
  remove_abandoned(path);
  std::error_code error;
  std::filesystem::create_directories(temporary_, error);
  require(!error, "{}: cannot be made: {}", path_.string(), error.message());
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
}

void AtomicFolder::commit(bool replace) {
  // The two change places in one step; the destructor removes the old one, which has the temporary
  // name now.
  if (replace &&
      ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0) {
    sync_folder(path_);
    return;
  }
  rename_over(temporary_, path_);
  temporary_.clear();
}

bool is_within(const Path& path, const Path& folder) {
  std::error_code error;
  const Path inner = std::filesystem::weakly_canonical(path, error);
  const Path outer = std::filesystem::weakly_canonical(folder, error);
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

OutputFile::OutputFile(const Path& path, bool keep) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (keep ? 0 : O_TRUNC), 0666);
  require(descriptor_ >= 0, "{}: cannot be written: {}", path.string(), cause(errno));
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void OutputFile::resize(std::int64_t num_bytes) {
  struct stat status {};
  require_done(::fstat(descriptor_, &status) == 0, path_, "");
  if (status.st_size > num_bytes)
    require_done(::ftruncate(descriptor_, num_bytes) == 0, path_, "cannot be cut: ");
  if (num_bytes == 0) return;
  // Room is taken now rather than found missing after hours.
  const int error = ::posix_fallocate(descriptor_, 0, num_bytes);
  require(error == 0, "{}: {} bytes cannot be reserved: {}", path_.string(), num_bytes,
          cause(error));
}

void OutputFile::write_at(std::int64_t offset, Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    require(written >= 0, "{}: cannot be written: {}", path_.string(), cause(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += written;
  }
}

void OutputFile::flush_to_disk() {
  require_done(::fsync(descriptor_) == 0, path_, "cannot be flushed: ");
}

void OutputFile::commit_as(const Path& path) {
  flush_to_disk();
  require_done(::close(std::exchange(descriptor_, -1)) == 0, path_, "cannot be closed: ");
  rename_over(path_, path);
}

void remove_folder(const Path& path) {
  const Path temporary = temporary_beside(path);
  if (::rename(path.c_str(), temporary.c_str()) != 0) {
    require_done(errno == ENOENT, path, "cannot be removed: ");
    return;
  }
  std::error_code ignored;  // what stays has a temporary's name
  std::filesystem::remove_all(temporary, ignored);
}

void remove_temporaries(const Path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().filename().string().starts_with(kTemporaryPrefix))
      std::filesystem::remove_all(entry.path(), error);
}

FolderLock::FolderLock(const Path& folder) {
  const Path path = folder / kLockName;
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  require_done(descriptor_ >= 0, folder, "cannot be locked: ");
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const ssize_t got = ::pread(descriptor_, holder, sizeof holder - 1, 0);
    ::close(std::exchange(descriptor_, -1));
    fail("{}: another process ({}) is working on this folder", folder.string(),
         got > 0 ? std::string("id ") + holder : "id unknown");
  }
  const std::string id = std::to_string(::getpid());
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, id.data(), id.size(), 0) < 0) {
    // The lock holds without the name in it; a full disk must not stop a run from resuming.
  }
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

OutputLock::OutputLock(const Path& output) : path_(output.string() + ".lock") {
  // A lock on a file that its last holder has removed in the meantime keeps nobody away.
  for (bool still_there = false; !still_there;) {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    require_done(descriptor_ >= 0, output, "cannot be locked: ");
    const bool is_ours = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
    struct stat own {
    }, named{};
    still_there = ::fstat(descriptor_, &own) == 0 && ::stat(path_.c_str(), &named) == 0 &&
                  own.st_ino == named.st_ino && own.st_dev == named.st_dev;
    if (!is_ours || !still_there) ::close(std::exchange(descriptor_, -1));
    require(is_ours, "{}: another process is writing it", output.string());
  }
}

OutputLock::~OutputLock() {
  if (descriptor_ < 0) return;
  ::unlink(path_.c_str());
  ::close(descriptor_);
}

void make_output_folder(const Path& path, bool overwrite, const std::vector<Path>& inputs) {
  check_output_folder(path, overwrite, inputs);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  require(!error, "{}: cannot be made: {}", path.string(), error.message());
  if (!overwrite) return;
  // A recipe goes first and the manifest last: killed between them, what is left is no run to go on
  // with, and may be replaced.
  const auto turn = [](const Path& entry) {
    const Path name = entry.filename();
    return name == "recipe.yaml" ? 0 : name == "manifest.json" ? 2 : 1;
  };
  std::vector<Path> entries;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.path().filename() != kLockName) entries.push_back(entry.path());
  std::stable_sort(entries.begin(), entries.end(),
                   [&](const Path& a, const Path& b) { return turn(a) < turn(b); });
  for (const Path& entry : entries) {
    std::filesystem::remove_all(entry, error);
    require(!error, "{}: cannot be removed: {}", entry.string(), error.message());
  }
}

void make_output_file(const Path& path, bool overwrite, const std::vector<Path>& inputs) {
  require_usage(!path.empty(), "--out is needed: the file to write");
  require_usage(path.has_filename(), "--out {}: is the name of a folder, expected a file",
                path.string());
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    require(!std::filesystem::is_directory(path), "{}: is a folder, expected a file name",
            path.string());
    require(std::filesystem::is_regular_file(path), "{}: is a device or the like, no file",
            path.string());
    require(overwrite, "{}: exists already; --overwrite replaces it", path.string());
    for (const Path& input : inputs)
      require(!std::filesystem::equivalent(input, path, error),
              "{}: is {}, which is to be read: it cannot be replaced", path.string(),
              input.string());
    error.clear();
  }
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  require(!error, "{}: cannot be made: {}", path.parent_path().string(), error.message());
}

}  // namespace cresco
