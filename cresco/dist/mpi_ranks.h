// The ranks of MPI_COMM_WORLD.
#pragma once

#include "cresco/dist/ranks.h"

namespace cresco::dist {

Ranks& mpi_ranks();             // joins with the first call
void abort_mpi(int exit_code);  // ends all ranks; does nothing before they were joined

}  // namespace cresco::dist
