#include "cresco/base/interrupt.h"

#include <csignal>

namespace cresco {
namespace {

volatile std::sig_atomic_t was_interrupted = 0;

void on_signal(int signal) {
  if (was_interrupted) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  was_interrupted = 1;
}

}  // namespace

void watch_for_interrupts() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  // The terminal has gone; under nohup that is no reason to stop.
  if (std::signal(SIGHUP, on_signal) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
}

bool interrupted() { return was_interrupted != 0; }

}  // namespace cresco
