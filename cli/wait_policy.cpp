// Threads that wait for one another sleep instead of spinning.
//
// LibTorch's threads are OpenMP's, and its runtime spins for some milliseconds at the end of each
// parallel loop. On a machine that has anything else to do, the spinning takes the time that the
// other threads need: small models then train several times slower (2,000 against 10,000 tokens a
// second, measured on two cores at a load of 5). The runtime reads OMP_WAIT_POLICY when it is
// loaded, before main; so this runs before that, and starts the program once more with the setting
// made. Whoever sets it keeps it.
#include <unistd.h>

#include <cstring>

namespace {

constexpr char kSetting[] = "OMP_WAIT_POLICY=passive";
constexpr int kLargestEnvironment = 4096;

void wait_passively(int, char** arguments, char** environment) {
  static char* extended[kLargestEnvironment + 2];
  static char path[4096];
  int count = 0;
  for (; environment[count]; ++count) {
    if (count == kLargestEnvironment) return;
    if (std::strncmp(environment[count], kSetting, std::strlen("OMP_WAIT_POLICY=")) == 0) return;
    extended[count] = environment[count];
  }
  extended[count] = const_cast<char*>(kSetting);
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path - 1);
  if (length > 0) ::execve(path, arguments, extended);
  // Not started again: the program goes on as it is, only slower beside others.
}

// Called before the libraries' own initialisation.
[[gnu::section(".preinit_array"),
  gnu::used]] void (*const wait_passively_first)(int, char**, char**) = wait_passively;

}  // namespace
