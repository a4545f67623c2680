// operator new with an end: the n-th allocation of a watched region fails. Included by one file of a program; where that is linked
// with --wrap=malloc and WEFT_WRAPS_MALLOC is defined, what calls malloc itself is counted too.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

// Counted only inside a watched region, on the thread that watches.
thread_local bool watching = false;
thread_local long until_failure = -1, allocated = 0, live = 0;
thread_local std::ptrdiff_t held = 0, most_held = 0;  // bytes, by new

// Whether this allocation succeeds.
bool counted() {
  if (!watching) return true;
  if (until_failure == 0) return false;
  if (until_failure > 0) --until_failure;
  ++allocated;
  return true;
}

void* take(std::size_t bytes, std::size_t alignment) {
  if (!counted()) throw std::bad_alloc();
  const std::size_t front = std::max(alignment, alignof(std::max_align_t));  // where the size is noted
  char* const p = static_cast<char*>(std::aligned_alloc(front, (front + bytes + front - 1) / front * front));
  if (!p) throw std::bad_alloc();
  *reinterpret_cast<std::size_t*>(p) = bytes;
  if (watching) ++live, held += static_cast<std::ptrdiff_t>(bytes), most_held = std::max(most_held, held);
  return p + front;
}
void give(void* given, std::size_t alignment) {
  if (!given) return;
  char* const p = static_cast<char*>(given) - std::max(alignment, alignof(std::max_align_t));
  if (watching) --live, held -= static_cast<std::ptrdiff_t>(*reinterpret_cast<const std::size_t*>(p));
  std::free(p);
}

struct watch {
  explicit watch(long failing) {
    until_failure = failing, allocated = live = 0, held = most_held = 0;
    watching = true;
  }
  ~watch() { watching = false; }
};

}  // namespace

void* operator new(std::size_t n) { return take(n, alignof(std::max_align_t)); }
void* operator new[](std::size_t n) { return take(n, alignof(std::max_align_t)); }
void* operator new(std::size_t n, std::align_val_t a) { return take(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return take(n, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { give(p, 1); }
void operator delete[](void* p) noexcept { give(p, 1); }
void operator delete(void* p, std::size_t) noexcept { give(p, 1); }
void operator delete[](void* p, std::size_t) noexcept { give(p, 1); }
void operator delete(void* p, std::align_val_t a) noexcept { give(p, static_cast<std::size_t>(a)); }
void operator delete[](void* p, std::align_val_t a) noexcept { give(p, static_cast<std::size_t>(a)); }
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept { give(p, static_cast<std::size_t>(a)); }
void operator delete[](void* p, std::size_t, std::align_val_t a) noexcept { give(p, static_cast<std::size_t>(a)); }

#ifdef WEFT_WRAPS_MALLOC
extern "C" void* __real_malloc(std::size_t n);
extern "C" void* __wrap_malloc(std::size_t n) { return counted() ? __real_malloc(n) : nullptr; }
#endif
