// Kernels that Ctrl-C ends, as it ends a loop in Python.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "cpu/interrupt.h"

namespace pygen {
namespace py = pybind11;

// Of the call of this thread, which alone asks Python, ten times a second. Python's handler waits until the kernel has
// returned: one that calls this module would take the memory that the kernel works in.
class Signals final : public Interrupt {
 public:
  bool stop() override {
    if (stopped_.load(std::memory_order_relaxed)) return true;
    if (ignored_ || std::this_thread::get_id() != caller_) return false;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(100);
    const py::gil_scoped_acquire acquire;
    if (!PyOS_InterruptOccurred()) return false;  // which forgets it
    stopped_ = true;
    return true;
  }
  // Whether the kernel was stopped, and its handler does not raise: it has to run again, whatever comes.
  bool wants_more() {
    if (!stopped_) return false;
    PyErr_SetInterrupt();
    if (PyErr_CheckSignals()) throw py::error_already_set();
    stopped_ = false;
    ignored_ = true;
    return true;
  }

 private:
  std::atomic<bool> stopped_{false};
  bool ignored_ = false;
  const std::thread::id caller_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
};

// kernel(): without the GIL; it writes all of its results anew.
template <class Kernel>
void run_interruptibly(Signals& signals, const Kernel& kernel) {
  do {
    const py::gil_scoped_release release;
    kernel();
  } while (signals.wants_more());
}

}  // namespace pygen
