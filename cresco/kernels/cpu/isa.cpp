#include "cresco/kernels/isa.h"

#include "cresco/kernels/bf16_product.h"

#include <cstdlib>
#include <string_view>

namespace cresco::kernels {
namespace {

std::vector<Isa> find_isas() {
  std::vector<Isa> found{Isa::X86_64};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(Isa::Avx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(Isa::Avx512);
  return found;
}

Isa choose() {
  const char* const asked = std::getenv("CRESCO_CPU_KERNELS");
  const std::string_view most = asked ? asked : name_of(Isa::Avx512);
  Isa chosen = Isa::X86_64;
  for (const Isa isa : available_isas()) {
    chosen = isa;
    if (most == name_of(isa)) break;
  }
  return most == name_of(Isa::Avx512) || most == name_of(Isa::Avx2) ? chosen : Isa::X86_64;
}

}  // namespace

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = find_isas();
  return isas;
}

Isa chosen_isa() {
  static const Isa isa = choose();
  return isa;
}

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::X86_64:
      return "x86-64";
    case Isa::Avx2:
      return "avx2";
    case Isa::Avx512:
      return "avx512";
  }
  return "";
}

bool has_bf16_product() {
  return chosen_isa() == Isa::Avx512 && __builtin_cpu_supports("avx512bf16");
}

}  // namespace cresco::kernels
