// The executor `cpu`: who runs the pieces of a call, and the scratch memory they use.
#pragma once
#include <concepts>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "array.hpp"

namespace weft {
inline namespace v1 {

// A non-owning reference to a callable void(index i, int worker).
class task_ref {
 public:
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, task_ref>)
  task_ref(F&& f)  // NOLINT: implicit by design
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, index i, int worker) { (*static_cast<std::remove_reference_t<F>*>(o))(i, worker); }) {}
  void operator()(index i, int worker) const { call_(object_, i, worker); }

 private:
  void* object_;
  void (*call_)(void*, index, int);
};

// Anything that runs f(i, worker) for i in [0, n), no two calls at once with one worker number, and returns when all are
// done. Worker numbers are below pool.workers(), or below the machine's threads for a pool that does not tell.
template <class P>
concept thread_pool = requires(P& pool, index n, task_ref f) {
  pool.parallel_for(n, f);
};

// Memory that a caller of several verbs keeps between them: blocks that grow once and are used again in the same order.
class temporaries {
 public:
  // Gives back at its end what was taken since its beginning.
  class scope {
   public:
    explicit scope(temporaries& t) : owner_(t), mark_(t.used_) {}
    ~scope() { owner_.used_ = mark_; }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

    // Uninitialised and contiguous.
    template <class T, std::convertible_to<index>... I>
    view<T, static_cast<int>(sizeof...(I))> take(I... extents) {
      index n = 1;
      ((n *= static_cast<index>(extents)), ...);
      if (owner_.used_ == owner_.blocks_.size()) owner_.blocks_.emplace_back();
      aligned_bytes& block = owner_.blocks_[owner_.used_];
      block.reserve(static_cast<std::size_t>(n > 0 ? n : 1) * sizeof(T));
      ++owner_.used_;
      return {reinterpret_cast<T*>(block.data()), {static_cast<index>(extents)...}};
    }

   private:
    temporaries& owner_;
    std::size_t mark_;
  };

  std::size_t bytes() const {
    std::size_t n = 0;
    for (const aligned_bytes& b : blocks_) n += b.size();
    return n;
  }

 private:
  std::vector<aligned_bytes> blocks_;
  std::size_t used_ = 0;
};

// Runs on the CPU: serial, or over a pool that the user owns and that outlives this object. weft starts no thread itself.
// Owns a workspace that grows once and is reused: keep one executor a thread of calls, not one a call.
// Results are bit-identical for every number of workers.
class cpu {
 public:
  WEFT_INLINE cpu() : scratch_(1) {}
  template <class Pool>
  WEFT_INLINE explicit cpu(Pool& pool) : pool_(&pool) {
    static_assert(thread_pool<Pool>, "weft: a pool needs parallel_for(n, f), which calls f(i, worker)");
    run_ = [](void* p, index n, task_ref f) { static_cast<Pool*>(p)->parallel_for(n, f); };
    int count = 0;
    if constexpr (requires { { pool.workers() } -> std::convertible_to<int>; }) count = pool.workers();
    else count = static_cast<int>(std::thread::hardware_concurrency());
    scratch_.resize(static_cast<std::size_t>(count > 0 ? count : 1));
  }

  WEFT_INLINE int workers() const { return static_cast<int>(scratch_.size()); }

  WEFT_INLINE void parallel_for(index n, task_ref f) {
    if (rehearsing_) return;
    if (!run_ || n <= 1)
      for (index i = 0; i < n; ++i) f(i, 0);
    else
      run_(pool_, n, f);
  }

  // Room of `bytes` for every worker. Called before a parallel region, so that a failing allocation throws before any write.
  WEFT_INLINE void reserve(std::size_t bytes) {
    for (auto& s : scratch_) s.reserve(bytes);
  }
  WEFT_INLINE std::byte* scratch(int worker) {
    if (worker < 0 || worker >= workers())
      throw error(errc::value, "weft: parallel_for: expected worker numbers below " + std::to_string(workers()) + ", got " + std::to_string(worker));
    return scratch_[static_cast<std::size_t>(worker)].data();
  }
  WEFT_INLINE weft::temporaries& temporaries() { return temporaries_; }
  WEFT_INLINE bool rehearsing() const { return rehearsing_; }

  // The memory that it has come to own, and the most that a call took beside it.
  std::size_t bytes() const {
    std::size_t n = temporaries_.bytes() + beside_;
    for (const aligned_bytes& s : scratch_) n += s.size();
    return n;
  }
  void took_beside(std::size_t bytes) { beside_ = std::max(beside_, bytes); }
  // Another on the same pool, without memory yet.
  cpu fresh() const {
    cpu other;
    other.pool_ = pool_, other.run_ = run_;
    other.scratch_.resize(scratch_.size());
    return other;
  }

 private:
  friend class rehearsal;

  void* pool_ = nullptr;
  void (*run_)(void*, index, task_ref) = nullptr;
  std::vector<aligned_bytes> scratch_;
  weft::temporaries temporaries_;
  bool rehearsing_ = false;
  std::size_t beside_ = 0;
};

// While it lives, the verbs of its executor check their arguments and grow its memory, and do nothing else. The same calls
// after it neither throw nor allocate, so a caller of several verbs can be refused before the first one writes.
class rehearsal {
 public:
  WEFT_INLINE explicit rehearsal(cpu& executor) : executor_(executor), outer_(executor.rehearsing_) { executor.rehearsing_ = true; }
  WEFT_INLINE ~rehearsal() { executor_.rehearsing_ = outer_; }
  rehearsal(const rehearsal&) = delete;
  rehearsal& operator=(const rehearsal&) = delete;

 private:
  cpu& executor_;
  bool outer_;
};

// Hands out aligned pieces of one worker's scratch memory. With a null base it only adds up how much is needed.
class arena {
 public:
  explicit arena(std::byte* base = nullptr) : base_(base) {}
  template <class T>
  T* take(index count) {
    const std::size_t at = used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + alignment - 1) / alignment * alignment;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace v1
}  // namespace weft
