// The kernels of one instruction set.
#pragma once

#include "cresco/kernels/crosscoder.h"

namespace cresco::kernels {

template <class Number>
struct Table {
  decltype(&gates<Number>) gates;
  decltype(&find_blocks<Number>) find_blocks;
  decltype(&decode<Number>) decode;
  decltype(&spread<Number>) spread;
  decltype(&dense_codes<Number>) dense_codes;
  decltype(&band<Number>) band;
  decltype(&adam<Number>) adam;
  decltype(&backward_decoder<Number>) backward_decoder;
  decltype(&multiply<Number>) multiply;
  decltype(&pack_error<Number>) pack_error;
  decltype(&whole_gates<Number>) whole_gates;
  decltype(&whole_decoder<Number>) whole_decoder;
  decltype(&backward_encoder<Number>) backward_encoder;
  decltype(&decoder_norms<Number>) decoder_norms;
};

struct Tables {
  Table<float> floats;
  Table<double> doubles;
};

namespace x86_64 {
extern const Tables tables;
}
namespace avx2 {
extern const Tables tables;
}
namespace avx512 {
extern const Tables tables;
}

}  // namespace cresco::kernels
