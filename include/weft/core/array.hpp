// Owning, zero-initialised, 64-byte aligned arrays: the storage of states and of tensors read from files.
#pragma once
#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "error.hpp"
#include "view.hpp"

namespace weft {
inline namespace v1 {

inline constexpr std::size_t alignment = 64;  // a cache line, and the widest vector register

namespace detail {
struct aligned_delete {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t{alignment}); }
};
}  // namespace detail

// Uninitialised, aligned bytes that only grow.
class aligned_bytes {
 public:
  WEFT_INLINE std::byte* data() const { return data_.get(); }
  WEFT_INLINE std::size_t size() const { return size_; }
  // Makes room for at least n bytes; what was stored is lost. Throws std::bad_alloc and keeps the old room.
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

  array() = default;
  // Zeros. Throws errc::shape for a negative extent or a product beyond the address space, std::bad_alloc without memory.
  WEFT_INLINE explicit array(std::array<index, Rank> extents) : extent_(extents) {
    std::size_t n = 1;
    for (const index e : extents) {
      if (e < 0) throw error(errc::shape, "weft: an array's extent must not be negative, got " + std::to_string(e));
      if (e > 0 && n > std::numeric_limits<std::size_t>::max() / sizeof(T) / 2 / static_cast<std::size_t>(e))
        throw error(errc::shape, "weft: an array's extents exceed the address space");
      n *= static_cast<std::size_t>(e);
    }
    size_ = static_cast<index>(n);
    // One element at least: an array that exists is never a null view, even with no elements.
    data_.reset(static_cast<T*>(::operator new(std::max<std::size_t>(n, 1) * sizeof(T), std::align_val_t{alignment})));
    std::uninitialized_fill_n(data_.get(), n, T{});
  }
  WEFT_INLINE array(const array& other) { *this = other; }
  WEFT_INLINE array(array&& other) noexcept { *this = std::move(other); }
  WEFT_INLINE array& operator=(const array& other) {
    if (this == &other) return *this;
    if (!other.data_) return *this = array();
    array copy(other.extent_);
    std::copy_n(other.data_.get(), other.size_, copy.data_.get());
    return *this = std::move(copy);
  }
  WEFT_INLINE array& operator=(array&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    extent_ = std::exchange(other.extent_, {});
    return *this;
  }

  WEFT_INLINE bool null() const { return !data_; }
  WEFT_INLINE T* data() const { return data_.get(); }
  WEFT_INLINE index size() const { return size_; }
  WEFT_INLINE const std::array<index, Rank>& extent() const { return extent_; }
  WEFT_INLINE index extent(int dim) const { return extent_[static_cast<std::size_t>(dim)]; }
  WEFT_INLINE std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

  // An array owns its elements as a pointer does: a const array still gives writable views only through its non-const form.
  WEFT_INLINE operator weft::view<T, Rank>() { return view(); }
  WEFT_INLINE operator weft::view<const T, Rank>() const { return view(); }
  WEFT_INLINE weft::view<T, Rank> view() { return {data_.get(), extent_}; }
  WEFT_INLINE weft::view<const T, Rank> view() const { return {data_.get(), extent_}; }
  template <std::convertible_to<index>... I>
  WEFT_INLINE T& operator()(I... at) { return view()(at...); }
  template <std::convertible_to<index>... I>
  WEFT_INLINE const T& operator()(I... at) const { return view()(at...); }

 private:
  std::unique_ptr<T, detail::aligned_delete> data_;
  index size_ = 0;
  std::array<index, Rank> extent_{};
};

}  // namespace v1
}  // namespace weft
