// Starting the kernels of crosscoder_whole.h on a GPU. Each returns null, or what CUDA says is
// wrong.
#pragma once

#include <cstdint>

namespace cresco::kernels::cuda {

// A thread for each column of each piece of rows.
template <class Arguments>
const char* over_columns(const Arguments& arguments, std::int64_t columns, std::int64_t pieces,
                         void* stream);
// A team of threads for each row.
template <class Arguments>
const char* over_rows(const Arguments& arguments, std::int64_t rows, void* stream);

}  // namespace cresco::kernels::cuda
