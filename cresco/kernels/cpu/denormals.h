// Numbers too small to be normal, with which a processor is some ten times slower, count as 0 while
// one of these lives. A setting of the thread, put back at the end.
#pragma once

namespace cresco::kernels {

class DenormalsAreZero {
 public:
  DenormalsAreZero() : before_(__builtin_ia32_stmxcsr()) {
    __builtin_ia32_ldmxcsr(before_ | kFlushResults | kReadAsZero);
  }
  ~DenormalsAreZero() { __builtin_ia32_ldmxcsr(before_); }
  DenormalsAreZero(const DenormalsAreZero&) = delete;
  DenormalsAreZero& operator=(const DenormalsAreZero&) = delete;

 private:
  static constexpr unsigned kFlushResults = 0x8000, kReadAsZero = 0x0040;
  unsigned before_;
};

}  // namespace cresco::kernels
