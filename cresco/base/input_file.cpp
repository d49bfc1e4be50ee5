#include "cresco/base/input_file.h"

#include "cresco/base/require.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace cresco {
namespace {

std::int64_t change_time(const struct stat& status) {
  return std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace

InputFile::InputFile(const Path& path) : path_(path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not wait.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  require(descriptor_ >= 0, "{}: {}", path.string(), std::strerror(errno));
  struct stat status {};
  const bool is_file = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!is_file) ::close(std::exchange(descriptor_, -1));
  require(is_file, "{}: is not a regular file", path.string());
  size_ = status.st_size;
  changed_ns_ = change_time(status);
}

InputFile::InputFile(const std::string& name, std::string bytes)
    : path_(name), size_(static_cast<std::int64_t>(bytes.size())), memory_(std::move(bytes)) {}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void InputFile::read(std::int64_t offset, std::span<std::byte> out) const {
  const auto size = static_cast<std::int64_t>(out.size());
  require(offset >= 0 && size <= size_ && offset <= size_ - size,
          "{}: {} bytes at byte {} are wanted, the file has {}", path_.string(), size, offset,
          size_);
  if (descriptor_ < 0) {
    std::copy_n(memory_.data() + offset, out.size(), reinterpret_cast<char*>(out.data()));
    return;
  }
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), out.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    require(got >= 0, "{}: cannot be read at byte {}: {}", path_.string(), offset,
            std::strerror(errno));
    require(got > 0, "{}: ends at byte {} now, it had {} when it was opened: is it being written?",
            path_.string(), offset, size_);
    out = out.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
}

std::string InputFile::read_text(std::int64_t offset, std::int64_t num_bytes) const {
  require(num_bytes >= 0 && num_bytes <= size_,
          "{}: {} bytes at byte {} are wanted, the file has {}", path_.string(), num_bytes, offset,
          size_);
  std::string text(static_cast<std::size_t>(num_bytes), '\0');
  read(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

void InputFile::require_unchanged() const {
  if (descriptor_ < 0) return;
  struct stat status {};
  require(::fstat(descriptor_, &status) == 0 && status.st_size == size_ &&
              change_time(status) == changed_ns_,
          "{}: was written to while it was read", path_.string());
}

}  // namespace cresco
