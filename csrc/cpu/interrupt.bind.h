// Kernels that Ctrl-C ends, as it ends a loop in Python.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "cpu/interrupt.h"

namespace pygen {
namespace py = pybind11;

// Of the call of this thread, which alone asks Python, ten times a second.
class Signals final : public Interrupt {
 public:
  bool stop() override {
    if (stopped_.load(std::memory_order_relaxed)) return true;
    if (std::this_thread::get_id() != caller_) return false;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(100);
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() == 0) return false;
    stopped_ = true;
    return true;
  }
  // After the kernel, where the GIL is held again: raises what the signal's handler raised.
  void raise() const {
    if (stopped_) throw py::error_already_set();
  }

 private:
  std::atomic<bool> stopped_{false};
  const std::thread::id caller_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
};

// kernel(): without the GIL.
template <class Kernel>
void run_interruptibly(Signals& signals, const Kernel& kernel) {
  {
    const py::gil_scoped_release release;
    kernel();
  }
  signals.raise();
}

}  // namespace pygen
