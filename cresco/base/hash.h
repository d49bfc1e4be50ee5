// SHA-256, by OpenSSL.
#pragma once

#include "cresco/base/files.h"

#include <memory>
#include <string>

namespace cresco {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(Bytes bytes);
  std::string hex();  // 64 lower-case digits; ends the computation

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string sha256_hex(Bytes bytes);
std::string sha256_of_file(const Path& path);

}  // namespace cresco
