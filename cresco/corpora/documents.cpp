#include "cresco/corpora/documents.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace cresco::corpora {
namespace {

class TextFiles final : public Documents {
 public:
  explicit TextFiles(const std::vector<std::string>& paths) : paths_(paths.begin(), paths.end()) {
    require_usage(!paths_.empty(), "no text: name one file or more");
    for (const Path& path : paths_) {
      std::error_code error;
      const auto size = std::filesystem::file_size(path, error);
      require(!error, "{}: cannot be read: {}", path.string(), error.message());
      require(size > 0, "{}: is empty, there is no text to read", path.string());
      total_ += static_cast<std::int64_t>(size);
    }
  }

  bool next(std::string& out) override {
    while (at_ < paths_.size()) {
      const Path& path = paths_[at_];
      if (path.extension() != ".jsonl") {
        out = read_file(path);
        ++at_;
        read_ += static_cast<std::int64_t>(out.size());
        const std::size_t nul = out.find('\0');
        require(nul == std::string::npos, "{}: byte {} is 0: this is not text", path.string(), nul);
        return true;
      }
      if (next_line(path, out)) return true;
      ++at_;
    }
    return false;
  }

  std::int64_t bytes_read() const override { return read_; }
  std::int64_t bytes_total() const override { return total_; }

 private:
  // The next document of a JSONL file; false at its end.
  bool next_line(const Path& path, std::string& out) {
    if (!lines_.is_open()) {
      lines_.open(path);
      require(lines_.is_open(), "{}: cannot be read", path.string());
      line_number_ = 0;
    }
    std::string line;
    while (std::getline(lines_, line)) {
      ++line_number_;
      read_ += static_cast<std::int64_t>(line.size()) + 1;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      const std::string where = fmt::format("{}: line {}", path.string(), line_number_);
      out = get_string(parse_json(line, where), "text", where);
      return true;
    }
    require(!lines_.bad(), "{}: cannot be read past line {}", path.string(), line_number_);
    lines_.close();
    lines_.clear();
    return false;
  }

  std::vector<Path> paths_;
  std::size_t at_ = 0;
  std::ifstream lines_;
  std::int64_t line_number_ = 0, read_ = 0, total_ = 0;
};

class InMemory final : public Documents {
 public:
  explicit InMemory(std::vector<std::string> documents) : documents_(std::move(documents)) {}
  bool next(std::string& out) override {
    if (at_ == documents_.size()) return false;
    out = documents_[at_++];
    return true;
  }

 private:
  std::vector<std::string> documents_;
  std::size_t at_ = 0;
};

}  // namespace

std::unique_ptr<Documents> text_files(const std::vector<std::string>& paths) {
  return std::make_unique<TextFiles>(paths);
}

std::unique_ptr<Documents> in_memory(std::vector<std::string> documents) {
  return std::make_unique<InMemory>(std::move(documents));
}

}  // namespace cresco::corpora
