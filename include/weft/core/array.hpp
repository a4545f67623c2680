// Owning, zero-initialised, 64-byte aligned arrays: the storage of states and of tensors read from files.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "error.hpp"
#include "view.hpp"

namespace weft {
inline namespace v1 {

inline constexpr std::size_t alignment = 64;  // a cache line, and the widest vector register

namespace detail {
struct aligned_delete {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t{alignment}); }
};

// Where the system gives large pages to those who ask: a decode step over 8192 keys reads its cache 5 to 10 % faster.
WEFT_BASELINE inline void ask_for_large_pages([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t page = std::uintptr_t{1} << 21;
  const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(p) + page - 1) & ~(page - 1), end = (reinterpret_cast<std::uintptr_t>(p) + bytes) & ~(page - 1);
  if (begin < end) static_cast<void>(::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));  // a wish; refused, nothing changes
#endif
}
}  // namespace detail

// Uninitialised, aligned bytes that only grow.
class aligned_bytes {
 public:
  WEFT_INLINE std::byte* data() const { return data_.get(); }
  WEFT_INLINE std::size_t size() const { return size_; }
  // Makes room for at least n bytes; what was stored is lost. The old room is given back first, so where std::bad_alloc is thrown
  // none is left.
  WEFT_INLINE void reserve(std::size_t n) {
    if (n <= size_) return;
    data_.reset();
    size_ = 0;
    data_.reset(static_cast<std::byte*>(::operator new(n, std::align_val_t{alignment})));
    size_ = n;
  }

 private:
  std::unique_ptr<std::byte, detail::aligned_delete> data_;
  std::size_t size_ = 0;
};

template <class T, int Rank>
class array {
 public:
  static constexpr int rank = Rank;
  using element = T;

  WEFT_BASELINE array() {}
  // Zeros. Throws errc::shape for a negative extent or a product beyond the address space, std::bad_alloc without memory.
  WEFT_BASELINE explicit array(std::array<index, Rank> extents) { allocate(extents, true); }
  WEFT_BASELINE array(const array& other) { copy(other); }
  WEFT_BASELINE array(array&& other) noexcept { swap(other); }
  WEFT_BASELINE array& operator=(const array& other) {
    if (this == &other) return *this;
    array fresh(other);
    swap(fresh);
    return *this;
  }
  WEFT_BASELINE array& operator=(array&& other) noexcept {
    array gone;
    gone.swap(other);
    swap(gone);
    return *this;
  }
  WEFT_BASELINE ~array() { ::operator delete(static_cast<void*>(data_), std::align_val_t{alignment}); }

  WEFT_INLINE bool null() const { return data_ == nullptr; }
  WEFT_INLINE T* data() const { return data_; }
  WEFT_INLINE index size() const { return size_; }
  WEFT_INLINE const std::array<index, Rank>& extent() const { return extent_; }
  WEFT_INLINE index extent(int dim) const { return extent_[static_cast<std::size_t>(dim)]; }
  WEFT_INLINE std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

  // An array owns its elements as a pointer does: a const array still gives writable views only through its non-const form.
  WEFT_INLINE operator weft::view<T, Rank>() { return view(); }
  WEFT_INLINE operator weft::view<const T, Rank>() const { return view(); }
  WEFT_INLINE weft::view<T, Rank> view() { return {data_, extent_}; }
  WEFT_INLINE weft::view<const T, Rank> view() const { return {data_, extent_}; }
  template <std::convertible_to<index>... I>
  WEFT_INLINE T& operator()(I... at) { return view()(at...); }
  template <std::convertible_to<index>... I>
  WEFT_INLINE const T& operator()(I... at) const { return view()(at...); }

 private:
  static constexpr std::size_t extent_bytes = sizeof(std::array<index, Rank>);

  // Only the library's memcpy and memset move elements here: std's algorithms would be inline code of some instruction set.
  WEFT_BASELINE void allocate(const std::array<index, Rank>& extents, bool zeros) {
    static_assert(std::is_trivially_copyable_v<T>, "weft: an array holds numbers");
    std::size_t n = 1;
    for (std::size_t d = 0; d < Rank; ++d) {
      const index e = reinterpret_cast<const index*>(&extents)[d];
      if (e < 0) throw error(errc::shape, "weft: an array's extent must not be negative, got " + std::to_string(e));
      if (e > 0 && n > static_cast<std::size_t>(-1) / sizeof(T) / 2 / static_cast<std::size_t>(e))
        throw error(errc::shape, "weft: an array's extents exceed the address space");
      n *= static_cast<std::size_t>(e);
    }
    // One element at least: an array that exists is never a null view, even with no elements.
    data_ = static_cast<T*>(::operator new((n > 0 ? n : 1) * sizeof(T), std::align_val_t{alignment}));
    detail::ask_for_large_pages(data_, n * sizeof(T));
    if (zeros) std::memset(static_cast<void*>(data_), 0, n * sizeof(T));
    size_ = static_cast<index>(n);
    std::memcpy(&extent_, &extents, extent_bytes);
  }
  WEFT_BASELINE void copy(const array& other) {
    if (!other.data_) return;
    allocate(other.extent_, false);
    std::memcpy(static_cast<void*>(data_), static_cast<const void*>(other.data_), static_cast<std::size_t>(size_) * sizeof(T));
  }
  WEFT_BASELINE void swap(array& other) {
    T* const data = data_;
    const index size = size_;
    std::array<index, Rank> extent;
    std::memcpy(&extent, &extent_, extent_bytes);
    data_ = other.data_;
    size_ = other.size_;
    std::memcpy(&extent_, &other.extent_, extent_bytes);
    other.data_ = data;
    other.size_ = size;
    std::memcpy(&other.extent_, &extent, extent_bytes);
  }

  T* data_ = nullptr;
  index size_ = 0;
  std::array<index, Rank> extent_{};
};

}  // namespace v1
}  // namespace weft
