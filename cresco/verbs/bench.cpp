#include "cresco/verbs/bench.h"

#include "cresco/base/input_file.h"
#include "cresco/base/require.h"
#include "cresco/trajectories/open_snapshot.h"
#include "cresco/verbs/measuring.h"

#include <ATen/ATen.h>
#include <sys/mman.h>

namespace cresco::verbs {
namespace {

// Pages that nobody has touched yet, as a program that reads its first matrix has.
class FreshMemory {
 public:
  explicit FreshMemory(std::int64_t num_bytes) : size_(static_cast<std::size_t>(num_bytes)) {
    address_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(address_ != MAP_FAILED, "{} bytes of memory are not there", num_bytes);
  }
  ~FreshMemory() { ::munmap(address_, size_); }
  std::span<std::byte> bytes() { return {static_cast<std::byte*>(address_), size_}; }

 private:
  std::size_t size_;
  void* address_;
};

}  // namespace

Outcome run_bench_extract(const BenchExtractConfig& config, VerbContext&) {
  require_usage(config.repeats > 0, "--repeats is {}, expected at least 1", config.repeats);
  const trajectories::Snapshot known = trajectories::open_snapshot(config.file);
  const std::string name = known.resolve(config.tensor);
  const formats::StoredTensor& where = known.tensor(name);
  const std::int64_t size = where.num_bytes();
  std::vector<double> ours, plain;
  for (std::int64_t i = 0; i <= config.repeats; ++i) {
    double started = now_seconds();
    {  // all that it takes: open, read the header, find the tensor, read its bytes
      const trajectories::Snapshot snapshot = trajectories::open_snapshot(config.file);
      FreshMemory memory(size);
      formats::read(snapshot.tensor(name), memory.bytes());
    }
    const double our_seconds = now_seconds() - started;
    started = now_seconds();
    {  // read(2) of the same bytes by one thread
      FreshMemory memory(size);
      where.file->read(where.offset, memory.bytes());
    }
    const double plain_seconds = now_seconds() - started;
    if (i == 0) continue;  // brings the file into the page cache
    ours.push_back(our_seconds);
    plain.push_back(plain_seconds);
  }
  const double bytes = static_cast<double>(size);
  const double rate = bytes / median(ours), plain_rate = bytes / median(plain);
  return {.summary = {{"tensor", name},
                      {"num_bytes", size},
                      {"ms_per_read", median(ours) * 1e3},
                      {"bytes_per_second", rate},
                      {"plain_read_bytes_per_second", plain_rate},
                      {"ratio_to_plain_read", rate / plain_rate}},
          .text = fmt::format("{}: {:.1f} MB in {:.1f} ms, {:.2f} GB/s; a plain read {:.2f} GB/s; "
                              "ratio {:.2f}\n",
                              name, bytes / 1e6, median(ours) * 1e3, rate / 1e9, plain_rate / 1e9,
                              rate / plain_rate)};
}

}  // namespace cresco::verbs
