// Ctrl-C in kernels that may run for minutes.
#pragma once

namespace pygen {

// Asked between steps, by any thread of the kernel; where it says so, the kernel returns, with what it writes of no
// use. Made in interrupt.bind.h: what is inline here would be compiled for each instruction set, and one of them
// chosen.
class Interrupt {
 public:
  virtual bool stop() = 0;

 protected:
  ~Interrupt() = default;
};

}  // namespace pygen
