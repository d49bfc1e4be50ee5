// Ctrl-C as a question that long loops ask between steps.
#pragma once

namespace cresco {

// From here on the first SIGINT or SIGTERM only sets interrupted(); a second one ends the process.
void watch_for_interrupts();
bool interrupted();

}  // namespace cresco
