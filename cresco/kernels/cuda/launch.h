// Starting the kernels of crosscoder_whole.h, softmax_loss.h and rotary.h on a GPU. Each returns
// null, or what CUDA says is wrong.
#pragma once

#include <cstdint>

namespace cresco::kernels {
template <class Number, class Gradient>
struct SoftmaxRows;
template <class Number>
struct Rotary;
template <class Number>
struct RotaryGradient;
}  // namespace cresco::kernels

namespace cresco::kernels::cuda {

// A thread for each column of each piece of rows.
template <class Arguments>
const char* over_columns(const Arguments& arguments, std::int64_t columns, std::int64_t pieces,
                         void* stream);
// A team of threads for each row.
template <class Arguments>
const char* over_rows(const Arguments& arguments, std::int64_t rows, void* stream);

template <class Number, class Gradient>
const char* softmax_rows(const SoftmaxRows<Number, Gradient>& arguments, void* stream);
template <class Number>
const char* rotate(const Rotary<Number>& arguments, std::int64_t begin, std::int64_t end,
                   void* stream);
template <class Number>
const char* rotate_gradient(const RotaryGradient<Number>& arguments, std::int64_t begin,
                            std::int64_t end, void* stream);

}  // namespace cresco::kernels::cuda
