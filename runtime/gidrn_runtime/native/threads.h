// A bounded pool of threads that several callers share.

#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace gidrn {

// `count - 1` threads that help whoever calls `run`; the caller works too.
class Pool {
 public:
  explicit Pool(int count) : count_(count) {
    try {
      for (int i = 1; i < count; ++i) threads_.emplace_back([this] { work(); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Calls task(i, slot) for each i of [0, tasks), `slot` < size() being one thread's own; returns
  // when all are done. The tasks do not throw.
  void run(int tasks, const std::function<void(int, int)>& task) {
    Job job{&task, tasks};
    if (threads_.empty() || tasks < 2) {
      for (int i = 0; i < tasks; ++i) task(i, 0);
      return;
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back(&job);
      waiting_.store(static_cast<int>(jobs_.size()), std::memory_order_release);
    }
    arrived_.notify_all();
    help(job, 0);
    {
      const std::lock_guard<std::mutex> lock(mutex_);  // from here on nobody joins
      for (auto it = jobs_.begin(); it != jobs_.end(); ++it)
        if (*it == &job) {
          jobs_.erase(it);
          break;
        }
      waiting_.store(static_cast<int>(jobs_.size()), std::memory_order_release);
    }
    for (int i = 0; i < kSpins && job.helpers.load(std::memory_order_acquire); ++i) pause();
    std::unique_lock<std::mutex> lock(mutex_);
    left_.wait(lock, [&] { return job.helpers.load(std::memory_order_acquire) == 0; });
  }

  int size() const { return count_; }

 private:
  struct Job {
    const std::function<void(int, int)>* task;
    int tasks;
    std::atomic<int> next{0};
    std::atomic<int> helpers{0};
    int slots{1};  // slot 0 is the caller's
  };

  // Some tens of microseconds: pauses between two steps of a network are shorter than a wake-up.
  static constexpr int kSpins = 4000;

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }

  static void help(Job& job, int slot) {
    for (int i = job.next.fetch_add(1); i < job.tasks; i = job.next.fetch_add(1))
      (*job.task)(i, slot);
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      Job* job = nullptr;
      for (Job* one : jobs_)
        if (one->next.load() < one->tasks) job = one;
      if (job) {
        const int slot = job->slots++;
        job->helpers.fetch_add(1);
        lock.unlock();
        help(*job, slot);
        lock.lock();
        if (job->helpers.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_all();
        // The job may be gone from here on.
        continue;
      }
      if (stopping_) return;
      lock.unlock();
      for (int i = 0; i < kSpins && !waiting_.load(std::memory_order_acquire); ++i) pause();
      lock.lock();
      const auto wanted = [&] {
        if (stopping_) return true;
        for (const Job* one : jobs_)
          if (one->next.load() < one->tasks) return true;
        return false;
      };
      arrived_.wait(lock, wanted);
    }
  }

  void stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    arrived_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  int count_;
  std::mutex mutex_;
  std::condition_variable arrived_, left_;
  std::vector<Job*> jobs_;
  std::atomic<int> waiting_{0};
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace gidrn
