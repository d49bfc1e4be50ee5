// Which variant of a kernel runs: CPU kernels are compiled once for each instruction set.
#pragma once

#include <vector>

namespace cresco::kernels {

enum class Isa { X86_64, Avx2, Avx512 };

// Those that this processor can run, plainest first.
const std::vector<Isa>& available_isas();

// The one that kernels run with: the best there is, or what CRESCO_CPU_KERNELS in the environment
// asks for ("amx", "avx512", "avx2" or "x86-64"; AMX is for bf16_product.h alone), as far as the
// machine has it. Read once.
Isa chosen_isa();

const char* name_of(Isa isa);
inline const char* cpu_kernels() { return name_of(chosen_isa()); }

}  // namespace cresco::kernels
