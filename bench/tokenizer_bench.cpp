// How fast text becomes ids, and whether they are the right ones.
//
//   tokenizer_bench --tokenizer T.json --text FILE          documents are divided by NUL bytes
//   tokenizer_bench --tokenizer T.json --check CASES.jsonl  lines of {"text": ..., "ids": [...]}
//   tokenizer_bench --text FILE --train T.json --vocab-size N
//
// bench/peers/tokenizers_peer.py makes both files, and measures Hugging Face's library on the same.
#include "cresco/base/json.h"
#include "cresco/base/progress.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/text/bpe_trainer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <time.h>

#include <algorithm>
#include <thread>

namespace cresco {
namespace {

std::vector<std::string> split_documents(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\0', begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

struct Result {
  double seconds = 0;
  double cpu_seconds = 0;  // of the thread that took longest
  std::int64_t num_tokens = 0;
};

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Every thread has its own encoder and takes every num_threads-th document.
Result encode_all(const text::Tokenizer& tokenizer, const std::vector<std::string>& documents,
                  int num_threads) {
  std::vector<std::int64_t> num_tokens(num_threads);
  std::vector<double> cpu_seconds(num_threads);
  const double start = now_seconds();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < num_threads; ++t)
      threads.emplace_back([&, t] {
        text::Encoder encoder(tokenizer);
        std::vector<std::int32_t> ids;
        std::int64_t count = 0;
        for (std::size_t i = t; i < documents.size(); i += num_threads) {
          ids.clear();
          encoder.encode(documents[i], ids);
          count += static_cast<std::int64_t>(ids.size());
        }
        num_tokens[t] = count;
        cpu_seconds[t] = thread_cpu_seconds();
      });
  }
  Result out{now_seconds() - start, *std::max_element(cpu_seconds.begin(), cpu_seconds.end()), 0};
  for (const std::int64_t n : num_tokens) out.num_tokens += n;
  return out;
}

Json measure(const text::Tokenizer& tokenizer, const std::vector<std::string>& documents) {
  std::size_t num_bytes = 0;
  for (const std::string& document : documents) num_bytes += document.size();
  Json out;
  out["num_bytes"] = num_bytes;
  for (const int threads : {1, 2}) {
    // The quickest of seven runs is the one least disturbed by other programs.
    double seconds = 1e9, cpu_seconds = 1e9;
    for (int repeat = 0; repeat < 7; ++repeat) {
      const Result result = encode_all(tokenizer, documents, threads);
      seconds = std::min(seconds, result.seconds);
      cpu_seconds = std::min(cpu_seconds, result.cpu_seconds);
      out["num_tokens"] = result.num_tokens;
    }
    const double megabytes = static_cast<double>(num_bytes) / 1e6;
    out[fmt::format("mb_per_second_{}", threads)] = megabytes / seconds;
    out[fmt::format("mb_per_cpu_second_{}", threads)] = megabytes / cpu_seconds;
  }
  return out;
}

int check(const text::Tokenizer& tokenizer, const Path& path) {
  const std::string file = read_file(path);
  text::Encoder encoder(tokenizer);
  int num_cases = 0, num_wrong = 0;
  for (const std::string& line : split(file, '\n')) {
    if (line.empty()) continue;
    const Json item = parse_json(line, path.string());
    const auto text = item.at("text").get<std::string>();
    const auto expected = item.at("ids").get<std::vector<std::int32_t>>();
    std::vector<std::int32_t> ids;
    encoder.encode(text, ids);
    ++num_cases;
    if (ids == expected) continue;
    if (++num_wrong <= 10)
      fmt::print("'{}'\n  is       {}\n  expected {}\n", escape_for_terminal(text),
                 fmt::join(ids, " "), fmt::join(expected, " "));
  }
  fmt::print("{} cases, {} differ\n", num_cases, num_wrong);
  return num_wrong == 0 ? 0 : 1;
}

int train(const Path& text, std::int64_t vocab_size, const Path& out) {
  const std::vector<std::string> documents = split_documents(read_file(text));
  const double start = now_seconds();
  const text::Tokenizer tokenizer = text::train_bpe(documents, {.vocab_size = vocab_size});
  fmt::print("{{\"train_seconds\": {}}}\n", now_seconds() - start);
  write_file(out, tokenizer.to_json());
  return 0;
}

int run(std::vector<std::string> arguments) {
  std::string tokenizer, text, cases, trained;
  std::int64_t vocab_size = 4096;
  for (std::size_t i = 0; i + 1 < arguments.size(); i += 2) {
    if (arguments[i] == "--tokenizer") tokenizer = arguments[i + 1];
    if (arguments[i] == "--text") text = arguments[i + 1];
    if (arguments[i] == "--check") cases = arguments[i + 1];
    if (arguments[i] == "--train") trained = arguments[i + 1];
    if (arguments[i] == "--vocab-size") vocab_size = parse_int(arguments[i + 1], "--vocab-size");
  }
  if (!trained.empty()) return train(text, vocab_size, trained);
  if (!cases.empty()) return check(text::read_tokenizer(tokenizer), cases);
  fmt::print("{}\n",
             to_line(measure(text::read_tokenizer(tokenizer), split_documents(read_file(text)))));
  return 0;
}

}  // namespace
}  // namespace cresco

int main(int argc, char** argv) {
  try {
    return cresco::run({argv + 1, argv + argc});
  } catch (const cresco::Error& e) {
    fmt::print(stderr, "tokenizer_bench: {}\n", e.what());
    return 1;
  }
}
