// The parameters of a layer of any kind, or their gradients, as names and numbers.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "../core/view.hpp"

namespace weft {
inline namespace v1 {

template <class X>
struct named_numbers {
  std::string name;
  std::vector<index> shape;
  std::span<X> numbers;
};

// A value: copying copies the numbers.
template <class R>
class any_parameters {
 public:
  struct interface {
    virtual ~interface() = default;
    virtual std::unique_ptr<interface> clone() const = 0;
    virtual std::vector<named_numbers<R>> list() = 0;
    virtual const std::type_info& type() const = 0;
    virtual void* value() = 0;
  };

  any_parameters() = default;
  explicit any_parameters(std::unique_ptr<interface> p) : parameters_(std::move(p)) {}
  any_parameters(const any_parameters& other) : parameters_(other.parameters_ ? other.parameters_->clone() : nullptr) {}
  any_parameters(any_parameters&&) noexcept = default;
  any_parameters& operator=(any_parameters other) noexcept {
    parameters_ = std::move(other.parameters_);
    return *this;
  }

  bool empty() const { return !parameters_; }
  interface* get() { return parameters_.get(); }
  // By the names that the layer has for them, in its order; views of this object's numbers.
  std::vector<named_numbers<R>> list() { return parameters_ ? parameters_->list() : std::vector<named_numbers<R>>(); }

 private:
  std::unique_ptr<interface> parameters_;
};

}  // namespace v1
}  // namespace weft
