// What libraries read from the environment before main. The program starts itself once more with
// the settings that are not there yet; whoever sets one of them keeps it.
//
// OMP_WAIT_POLICY, GOMP_SPINCOUNT: threads that wait for one another spin shortly, then sleep.
// LibTorch's threads are OpenMP's, and its runtime spins for some milliseconds at the end of each
// parallel loop. On a machine that has anything else to do, the spinning takes the time that the
// other threads need: a small model's step takes 2,400 ms instead of 260 (two cores, four other
// processes at work). Threads that sleep at once have to be woken for each loop, which costs the
// same model 68 ms a step instead of 58 when the machine is quiet. Some thousand turns, about a
// tenth of a millisecond, take 58 there and 270 beside the four.
//
// GLIBC_TUNABLES: malloc asks for large pages. Products read columns of matrices whose rows are
// kilobytes apart, each on another page; with pages of 2 MiB the processor finds them. Where the
// system gives large pages on demand, a step of a 31M model takes 1,054 ms instead of 1,141 in
// float, 596 instead of 639 in bfloat16. glibc before 2.35 does not know it.
#include <unistd.h>

#include <cstring>

namespace {

struct Setting {
  const char* text;
  const char* unless;  // this is set
};
constexpr Setting kSettings[] = {{"OMP_WAIT_POLICY=passive", "OMP_WAIT_POLICY="},
                                 {"GOMP_SPINCOUNT=3000", "OMP_WAIT_POLICY="},
                                 {"GLIBC_TUNABLES=glibc.malloc.hugetlb=1", "GLIBC_TUNABLES="},
                                 {"CRESCO_ENVIRONMENT=complete", "CRESCO_ENVIRONMENT="}};
constexpr int kNumSettings = sizeof kSettings / sizeof *kSettings;
constexpr int kLargestEnvironment = 4096;

bool is_set(const char* name, char** environment) {
  for (; *environment; ++environment)
    if (std::strncmp(*environment, name, std::strlen(name)) == 0) return true;
  return false;
}

void add_settings(int, char** arguments, char** environment) {
  static char* extended[kLargestEnvironment + kNumSettings + 1];
  static char path[4096];
  int before = 0;
  for (; environment[before]; ++before) {
    if (before == kLargestEnvironment) return;
    extended[before] = environment[before];
  }
  // Never twice: the loader takes some variables away from programs with privileges.
  if (is_set("CRESCO_ENVIRONMENT=", environment)) return;
  int count = before;
  for (const Setting& setting : kSettings)  // of one variable that stands twice the first counts
    if (!is_set(setting.unless, environment)) extended[count++] = const_cast<char*>(setting.text);
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path - 1);
  if (length > 0) ::execve(path, arguments, extended);
  // Not started again: the program goes on as it is, only slower.
}

// Called before the libraries' own initialisation.
[[gnu::section(".preinit_array"),
  gnu::used]] void (*const add_settings_first)(int, char**, char**) = add_settings;

}  // namespace
