#include "tensor.hpp"

#include <algorithm>

namespace ops {

tensor_map tensors_of(const weft::tensor_file& file) {
  tensor_map all;
  for (const weft::tensor& t : file.tensors()) all.emplace(t.name, t);
  return all;
}

const weft::tensor& tensor_reader::get(std::string_view name) const {
  const auto at = tensors_.find(name);
  weft::require(at != tensors_.end(), weft::errc::missing, name, ": expected a tensor of this name, got none");
  // A tensor without elements may claim any number of tokens, and a call goes through them.
  index room = index{1} << 24;
  if (at->second.count() == 0)
    for (const index e : at->second.shape) room /= std::max<index>(1, e);
  weft::require(room > 0, weft::errc::shape, name, ": expected extents whose product, zeros aside, is at most 2^24 where there are no elements, got ",
                weft::check::list(at->second.shape));
  return at->second;
}

std::vector<index> tensor_reader::cu_seqlens(index batch, index time) const {
  if (!has("cu_seqlens")) return {};
  const weft::array<index, 1> given = array<index, 1>("cu_seqlens");
  weft::require(given.size() > 0, weft::errc::sequence, "cu_seqlens: expected at least one offset, got none");
  std::vector<index> cu(given.data(), given.data() + given.size());
  weft::check::sequences(cu, batch, time);
  return cu;
}

}  // namespace ops
