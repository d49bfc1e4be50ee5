#include "cresco/text/detail/tables.h"
#include "cresco/text/normalize.h"
#include "cresco/text/tokenizer.h"
#include "cresco/text/unicode.h"

#include <bit>
#include <cstring>

namespace cresco::text {
namespace {

// The ids of pieces seen before. Fixed in size: a piece has two places, and a newcomer takes the
// place of the older of the two there.
class PieceCache {
 public:
  static constexpr std::size_t kMaxBytes = 23, kMaxIds = 9;

  // A short piece as three words: its bytes, zeros, its length.
  struct Key {
    std::uint64_t words[3];
    bool operator==(const Key&) const = default;
  };
  struct alignas(64) Entry {
    Key key{};
    std::uint32_t num_ids = 0;
    std::int32_t ids[kMaxIds];
  };

  PieceCache() : entries_(kNumEntries) {}

  // `readable`: how many bytes from the start of the piece on may be read.
  static Key key_of(std::string_view piece, std::size_t readable) {
    Key key{};
    const std::size_t size = piece.size();
    if (readable >= sizeof key) {
      std::memcpy(&key, piece.data(), sizeof key);
      for (std::size_t word = 0; word < 3; ++word) {
        const std::size_t kept = size <= 8 * word ? 0 : size - 8 * word;
        if (kept < 8) key.words[word] &= (std::uint64_t{1} << 8 * kept) - 1;
      }
    } else {
      std::memcpy(&key, piece.data(), size);
    }
    key.words[2] |= static_cast<std::uint64_t>(size) << 56;
    return key;
  }

  // Nothing of this length: an empty entry has length 0, and no piece has.
  const Entry* find(const Key& key) const {
    const std::size_t place = place_of(key);
    if (entries_[place].key == key) return &entries_[place];
    if (entries_[place ^ 1].key == key) return &entries_[place ^ 1];
    return nullptr;
  }

  void insert(const Key& key, std::span<const std::int32_t> ids) {
    Entry& entry = entries_[place_of(key)];
    entries_[place_of(key) ^ 1] = entry;
    entry.key = key;
    entry.num_ids = static_cast<std::uint32_t>(ids.size());
    std::copy(ids.begin(), ids.end(), entry.ids);
  }

 private:
  static constexpr std::size_t kNumEntries = std::size_t{1} << 15;

  static std::size_t place_of(const Key& key) {
    std::uint64_t h = key.words[0] * 0x9E3779B97F4A7C15u;
    h ^= std::rotl(key.words[1] * 0xC2B2AE3D27D4EB4Fu, 29) ^ std::rotl(key.words[2], 43);
    h *= 0xD6E8FEB86659FD93u;
    return h >> (64 - std::countr_zero(kNumEntries));
  }

  std::vector<Entry> entries_;
};

}  // namespace

struct Encoder::State {
  Tokenizer tokenizer;
  EncodeOptions options;
  PieceCache cache;
  BpeMerger merger;
  std::vector<std::int32_t> symbols;

  const Tokenizer::Tables& tables() const { return *tokenizer.tables_; }

  void encode_document(std::string_view text, std::vector<std::int32_t>& out, EncodeStats& stats) {
    std::string replaced;
    if (!tables().keeps_bytes && !is_utf8(text)) {
      replaced = replace_invalid_utf8(text, stats.replaced);
      text = replaced;
    }
    tables().raw_tokens.split(
        text, options.parse_special, [&](std::string_view part) { encode_part(part, out, stats); },
        [&](std::int32_t id) { out.push_back(id); });
  }

  void encode_part(std::string_view text, std::vector<std::int32_t>& out, EncodeStats& stats) {
    std::string normalized;
    if (tables().parts.nfc && !is_nfc_quick(text)) {
      normalized = nfc(text);
      text = normalized;
    }
    tables().normalized_tokens.split(
        text, options.parse_special, [&](std::string_view part) { encode_plain(part, out, stats); },
        [&](std::int32_t id) { out.push_back(id); });
  }

  void encode_plain(std::string_view text, std::vector<std::int32_t>& out, EncodeStats& stats) {
    std::string prefixed;
    if (tables().parts.add_prefix_space && !text.starts_with(' ')) {
      prefixed = " ";
      prefixed += text;
      text = prefixed;
    }
    const Split split = tables().parts.split;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = piece_end(split, text, begin);
      encode_piece(text.substr(begin, end - begin), text.size() - begin, out, stats);
      begin = end;
    }
  }

  void encode_piece(std::string_view piece, std::size_t readable, std::vector<std::int32_t>& out,
                    EncodeStats& stats) {
    if (piece.size() > PieceCache::kMaxBytes) {
      merge_piece(piece, out, stats);
      return;
    }
    const PieceCache::Key key = PieceCache::key_of(piece, readable);
    if (const PieceCache::Entry* entry = cache.find(key)) {
      if (entry->num_ids == 1)
        out.push_back(entry->ids[0]);
      else
        out.insert(out.end(), entry->ids, entry->ids + entry->num_ids);
      return;
    }
    const std::size_t before = out.size();
    const bool complete = merge_piece(piece, out, stats);
    const std::span ids = std::span(out).subspan(before);
    if (complete && ids.size() <= PieceCache::kMaxIds) cache.insert(key, ids);
  }

  // False when a byte had no token.
  bool merge_piece(std::string_view piece, std::vector<std::int32_t>& out, EncodeStats& stats) {
    if (tables().parts.ignore_merges) {
      const auto whole = tables().vocabulary_ids.find(piece);
      if (whole != tables().vocabulary_ids.end()) {
        out.push_back(whole->second);
        return true;
      }
    }
    symbols.clear();
    for (const char byte : piece) {
      const std::int32_t id = tables().byte_ids[static_cast<unsigned char>(byte)];
      if (id >= 0) symbols.push_back(id);
    }
    const std::size_t missing = piece.size() - symbols.size();
    stats.dropped += static_cast<std::int64_t>(missing);
    const std::size_t kept = merger.merge(tables().merges, symbols);
    out.insert(out.end(), symbols.begin(), symbols.begin() + static_cast<std::ptrdiff_t>(kept));
    return missing == 0;
  }
};

Encoder::Encoder(const Tokenizer& tokenizer, EncodeOptions options)
    : state_(new State{tokenizer, options, {}, {}, {}}) {}
Encoder::~Encoder() = default;
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;

void Encoder::encode(std::string_view text, std::vector<std::int32_t>& out, EncodeStats* stats) {
  EncodeStats ignored;
  state_->encode_document(text, out, stats != nullptr ? *stats : ignored);
}

}  // namespace cresco::text
