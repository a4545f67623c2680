// Owning, zero-initialised arrays in the memory of a GPU: what array is on the host. Filling and copying are work on the
// stream that the array was made for, so an executor's arrays need no synchronisation among its calls.
#pragma once
#include <span>
#include <type_traits>

#include "../../core/array.hpp"
#include "runtime.hpp"

namespace weft {
inline namespace v1 {

template <class T, int Rank>
class device_array {
 public:
  static constexpr int rank = Rank;
  using element = T;

  device_array() = default;
  // Zeros. Throws errc::shape for extents that make no array, errc::device without memory.
  device_array(cudaStream_t stream, const std::array<index, Rank>& extents) : stream_(stream) {
    static_assert(std::is_trivially_copyable_v<T>, "weft: an array holds numbers");
    allocate(extents);
    check_cuda(cudaMemsetAsync(data_, 0, bytes(), stream_), "cudaMemsetAsync of ", bytes(), " bytes");
  }
  device_array(const device_array& other) { *this = other; }
  device_array(device_array&& other) noexcept { swap(other); }
  // Into the memory that is there where the extents are equal: a captured graph that refers to it stays valid.
  device_array& operator=(const device_array& other) {
    if (this == &other) return *this;
    if (null() || other.null() || extent_ != other.extent_) {
      device_array fresh;
      fresh.stream_ = other.stream_;
      if (!other.null()) fresh.allocate(other.extent_);
      swap(fresh);
    }
    if (!null()) copy_bytes(data_, other.data_, bytes(), cudaMemcpyDeviceToDevice);
    return *this;
  }
  device_array& operator=(device_array&& other) noexcept {
    device_array gone;
    gone.swap(other);
    swap(gone);
    return *this;
  }
  ~device_array() {
    if (data_) cudaFree(data_);  // not even of nothing where a stream may be captured
  }

  bool null() const { return data_ == nullptr; }
  T* data() const { return data_; }
  index size() const { return size_; }
  const std::array<index, Rank>& extent() const { return extent_; }
  index extent(int dim) const { return extent_[static_cast<std::size_t>(dim)]; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }
  cudaStream_t stream() const { return stream_; }

  operator weft::view<T, Rank>() { return view(); }
  operator weft::view<const T, Rank>() const { return view(); }
  weft::view<T, Rank> view() { return {data_, extent_}; }
  weft::view<const T, Rank> view() const { return {data_, extent_}; }

  // From host memory of the same size; the host's may be used again on return.
  void upload(const T* from) {
    if (size_ > 0) copy_bytes(data_, from, bytes(), cudaMemcpyHostToDevice);
  }
  // To host memory of the same size, which is filled on return: waits for the stream.
  void download(T* to) const {
    if (size_ > 0) copy_bytes(to, data_, bytes(), cudaMemcpyDeviceToHost);
    check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }
  // The rows of the first dimension in the given order; they are there (weft::gather has looked).
  device_array gather_rows(std::span<const index> rows) const {
    device_array out;
    out.stream_ = stream_;
    auto extents = extent_;
    const index row = extents[0] > 0 ? size_ / extents[0] : 0;
    extents[0] = static_cast<index>(rows.size());
    out.allocate(extents);
    for (std::size_t i = 0; i < rows.size() && row > 0; ++i)
      copy_bytes(out.data_ + static_cast<index>(i) * row, data_ + rows[i] * row, static_cast<std::size_t>(row) * sizeof(T), cudaMemcpyDeviceToDevice);
    return out;
  }

 private:
  void allocate(const std::array<index, Rank>& extents) {
    std::size_t n = 1;
    for (const index e : extents) {
      require(e >= 0, errc::shape, "an array's extent must not be negative, got ", e);
      require(e == 0 || n <= static_cast<std::size_t>(-1) / sizeof(T) / 2 / static_cast<std::size_t>(e), errc::shape, "an array's extents exceed the address space");
      n *= static_cast<std::size_t>(e);
    }
    // One element at least, as on the host: an array that exists is never a null view.
    check_cuda(cudaMalloc(reinterpret_cast<void**>(&data_), (n > 0 ? n : 1) * sizeof(T)), "cudaMalloc of ", n * sizeof(T), " bytes");
    size_ = static_cast<index>(n);
    extent_ = extents;
  }
  void copy_bytes(void* to, const void* from, std::size_t n, cudaMemcpyKind kind) const {
    check_cuda(cudaMemcpyAsync(to, from, n, kind, stream_), "cudaMemcpyAsync of ", n, " bytes");
  }
  void swap(device_array& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(extent_, other.extent_);
    std::swap(stream_, other.stream_);
  }

  T* data_ = nullptr;
  index size_ = 0;
  std::array<index, Rank> extent_{};
  cudaStream_t stream_ = nullptr;
};

}  // namespace v1
}  // namespace weft
