#include "cresco/base/hash.h"

#include "cresco/base/input_file.h"
#include "cresco/base/require.h"

#include <openssl/evp.h>

#include <algorithm>
#include <span>
#include <vector>

namespace cresco {

struct Sha256::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~Impl() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  require(impl_->context && EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) == 1,
          "SHA-256 is not available in this OpenSSL");
}

Sha256::~Sha256() = default;

void Sha256::update(Bytes bytes) { EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()); }

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EVP_DigestFinal_ex(impl_->context, digest, &length);
  return fmt::format("{:02x}", fmt::join(digest, digest + length, ""));
}

std::string sha256_hex(Bytes bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

std::string sha256_of_file(const Path& path) {
  const InputFile file(path);
  Sha256 hash;
  std::vector<std::byte> piece(1 << 20);
  for (std::int64_t at = 0; at < file.size(); at += static_cast<std::int64_t>(piece.size())) {
    const auto left = static_cast<std::size_t>(file.size() - at);
    const auto part = std::span(piece).first(std::min(piece.size(), left));
    file.read(at, part);
    hash.update(part);
  }
  return hash.hex();
}

}  // namespace cresco
