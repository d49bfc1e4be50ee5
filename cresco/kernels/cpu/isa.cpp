#include "cresco/kernels/isa.h"

#include "cresco/kernels/bf16_product.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

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

constexpr std::string_view kAmx = "amx";

std::string_view asked_for() {
  const char* const asked = std::getenv("CRESCO_CPU_KERNELS");
  return asked ? asked : kAmx;
}

// The processor has tiles of bfloat16, and Linux lets this process use them, which it has to ask.
bool find_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if ((d & kBf16) == 0 || (d & kTile) == 0) return false;
  constexpr int kAskForState = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  return ::syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
}

Isa choose() {
  const std::string_view most = asked_for() == kAmx ? name_of(Isa::Avx512) : asked_for();
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

bool has_amx() {
  static const bool has = has_bf16_product() && asked_for() == kAmx && find_amx();
  return has;
}

}  // namespace cresco::kernels
