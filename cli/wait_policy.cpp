// Threads that wait for one another spin shortly, then sleep.
//
// LibTorch's threads are OpenMP's, and its runtime spins for some milliseconds at the end of each
// parallel loop. On a machine that has anything else to do, the spinning takes the time that the
// other threads need: a small model's step takes 2,400 ms instead of 260 (two cores, four other
// processes at work). Threads that sleep at once have to be woken for each loop, which costs the
// same model 68 ms a step instead of 58 when the machine is quiet. Some thousand turns, about a
// tenth of a millisecond, take 58 there and 270 beside the four. The runtime reads its settings
// when it is loaded, before main; so this runs before that, and starts the program once more with
// them made. Whoever sets OMP_WAIT_POLICY keeps it.
#include <unistd.h>

#include <cstring>

namespace {

constexpr char kPolicy[] = "OMP_WAIT_POLICY=passive", kSpins[] = "GOMP_SPINCOUNT=3000";
constexpr int kLargestEnvironment = 4096;

void wait_passively(int, char** arguments, char** environment) {
  static char* extended[kLargestEnvironment + 3];
  static char path[4096];
  int count = 0;
  for (; environment[count]; ++count) {
    if (count == kLargestEnvironment) return;
    if (std::strncmp(environment[count], kPolicy, std::strlen("OMP_WAIT_POLICY=")) == 0) return;
    extended[count] = environment[count];
  }
  extended[count++] = const_cast<char*>(kPolicy);
  extended[count] = const_cast<char*>(kSpins);  // one that was set before stands first, and counts
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path - 1);
  if (length > 0) ::execve(path, arguments, extended);
  // Not started again: the program goes on as it is, only slower beside others.
}

// Called before the libraries' own initialisation.
[[gnu::section(".preinit_array"),
  gnu::used]] void (*const wait_passively_first)(int, char**, char**) = wait_passively;

}  // namespace
