#include "cresco/formats/stored_tensor.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/base/threads.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace cresco::formats {

std::int64_t StoredTensor::num_elements() const { return formats::num_elements(shape).value(); }

std::int64_t StoredTensor::num_bytes() const { return formats::num_bytes(dtype, shape).value(); }

bool StoredTensor::is_row_major() const {
  if (strides.empty()) return true;
  std::int64_t expected = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 0) return true;  // nothing lies anywhere
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

std::string StoredTensor::where() const {
  return fmt::format("{}: tensor '{}'", file->path().string(), escape_for_terminal(name));
}

namespace {

// Gives the elements of a strided view in row-major order, piece by piece. The part of the file
// that the view spans is in memory meanwhile.
void gather(const StoredTensor& t, std::int64_t piece_bytes,
            const std::function<void(Bytes)>& piece) {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < t.shape.size(); ++i) last += (t.shape[i] - 1) * t.strides[i];
  const auto item = static_cast<std::size_t>(bits_of(t.dtype) / 8);
  std::vector<std::byte> span((static_cast<std::size_t>(last) + 1) * item);
  t.file->read(t.offset, span);
  std::vector<std::byte> buffer;
  std::vector<std::int64_t> index(t.shape.size(), 0);
  std::int64_t at = 0;
  for (std::int64_t left = t.num_bytes(); left > 0;) {
    buffer.resize(static_cast<std::size_t>(std::min(piece_bytes, left)));
    for (std::size_t to = 0; to < buffer.size(); to += item) {
      std::memcpy(&buffer[to], &span[static_cast<std::size_t>(at) * item], item);
      for (std::size_t i = t.shape.size(); i-- > 0;) {
        at += t.strides[i];
        if (++index[i] < t.shape[i]) break;
        at -= t.strides[i] * t.shape[i];
        index[i] = 0;
      }
    }
    piece(buffer);
    left -= static_cast<std::int64_t>(buffer.size());
  }
}

// Most of the time of a large read goes into faulting in the pages that it fills: large pages make
// that 512 times rarer where the system gives them, and threads share the rest.
void read_large(const InputFile& file, std::int64_t offset, std::span<std::byte> out) {
  constexpr std::size_t kPiece = 16 << 20, kPage = 4096;
  if (out.size() < kPiece) return file.read(offset, out);
  const auto address = reinterpret_cast<std::uintptr_t>(out.data());
  const std::uintptr_t first = (address + kPage - 1) / kPage * kPage;
  const std::uintptr_t last = (address + out.size()) / kPage * kPage;
  ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // only advice
  const std::size_t pieces = (out.size() + kPiece - 1) / kPiece;
  parallel_for(static_cast<std::int64_t>(pieces), [&](std::int64_t i) {
    const std::size_t begin = static_cast<std::size_t>(i) * kPiece;
    file.read(offset + static_cast<std::int64_t>(begin),
              out.subspan(begin, std::min(kPiece, out.size() - begin)));
  });
}

}  // namespace

void read(const StoredTensor& tensor, std::span<std::byte> out) {
  require(static_cast<std::int64_t>(out.size()) == tensor.num_bytes(),
          "{}: has {} bytes, room was made for {}", tensor.where(), tensor.num_bytes(), out.size());
  if (out.empty()) return;
  if (tensor.is_row_major()) return read_large(*tensor.file, tensor.offset, out);
  gather(tensor, 1 << 20, [&](Bytes piece) {
    std::copy(piece.begin(), piece.end(), out.begin());
    out = out.subspan(piece.size());
  });
}

void read_pieces(const StoredTensor& tensor, std::int64_t piece_bytes,
                 const std::function<void(Bytes)>& piece) {
  const std::int64_t total = tensor.num_bytes();
  if (!tensor.is_row_major()) return gather(tensor, piece_bytes, piece);
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(piece_bytes, total)));
  for (std::int64_t at = 0; at < total; at += piece_bytes) {
    const auto part =
        std::span(buffer).first(static_cast<std::size_t>(std::min(piece_bytes, total - at)));
    tensor.file->read(tensor.offset + at, part);
    piece(part);
  }
}

const StoredTensor* find_tensor(const std::vector<StoredTensor>& tensors, std::string_view name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const StoredTensor& t) { return t.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

const StoredTensor& tensor_named(const std::vector<StoredTensor>& tensors, std::string_view name,
                                 const std::string& where) {
  if (const StoredTensor* found = find_tensor(tensors, name)) return *found;
  std::vector<std::string> names;
  for (const StoredTensor& tensor : tensors) names.push_back(tensor.name);
  fail("{}: has no tensor '{}'{}", where, escape_for_terminal(std::string(name)),
       did_you_mean(std::string(name), names));
}

}  // namespace cresco::formats
