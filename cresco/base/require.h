// The kinds of error, and the check that raises them.
//
// A message says what is wrong, where (file, tensor, byte, step), both numbers and the likely
// cause, in one line. The library throws; it never prints and never exits.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace cresco {

// Something the caller can fix: a damaged file, a shape that does not fit, a full disk. Exit
// status 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The command itself was wrong: an unknown option or field. Exit status 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// The user asked to stop, and what is needed to go on has been written. Exit status 130.
class Interrupted : public Error {
 public:
  using Error::Error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

// The message is formatted only when the condition is false.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    fail(format, std::forward<Args>(args)...);
}

template <class... Args>
void require_usage(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    fail_usage(format, std::forward<Args>(args)...);
}

// For work on words of the command line: what it finds wrong with them is a UsageError.
template <class Work>
auto as_usage(const Work& work) {
  try {
    return work();
  } catch (const UsageError&) {
    throw;
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

}  // namespace cresco
