// Running a piece of work on several threads.

#pragma once

#include <dlfcn.h>

#include <thread>
#include <vector>

namespace {

// On the OpenMP threads that PyTorch keeps, where its runtime is found: a second set of threads would fight with them
// for the cores while they wait for work.
void run_on_threads(int threads, void (*body)(void*), void* data) {
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  static const auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  if (threads <= 1) {
    body(data);
  } else if (parallel) {
    parallel(body, data, static_cast<unsigned>(threads), 0);
  } else {
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(body, data);
    body(data);
    for (std::thread& other : others) other.join();
  }
}

}  // namespace
