// The tensor-core engine for gated recurrences with 16-bit activations: its schedule's numbers, its shared memory, and what
// a launch carries. A block owns one head of one sequence, or a slice of its value columns. Chain warps hold the state in
// their accumulators, transposed (values x keys), and fold one chunk of tokens after the other; prepare warps run ahead and
// make what does not depend on the state.
#pragma once
#include <ostream>

#include <cuda.h>

#include "recurrence_lanes.hpp"
#include "recurrence_structure.hpp"
#include "tile.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// How a call is cut: what the choice by shape gives, and what a bench prints.
struct tensor_tuning {
  int chunk = 32;           // tokens
  int slice = 128;          // value columns of a block
  int chain_rows = 32;      // value columns of a chain warp; 16 take less time, and more of shared memory's
  int prepare_groups = 2;   // chunks that are prepared at once
  int micro = 1;            // steps of a token; q and o have so many rows fewer

  constexpr int chain_warps() const { return slice / chain_rows; }
  constexpr int prepare_warps() const { return prepare_groups * chunk / 16; }
  constexpr int threads() const { return 32 * (chain_warps() + prepare_warps()); }
  friend std::ostream& operator<<(std::ostream& out, const tensor_tuning& t) {
    return out << "chunk " << t.chunk << ", slice " << t.slice << ", chain warps " << t.chain_warps() << " of " << t.chain_rows << " rows, prepare groups "
               << t.prepare_groups;
  }
};

template <class P, class T>
struct tensor_job {
  inputs_of<P, T> in;
  P policy;
  extents<float> x;
  float* matrix;
  T* o;             // null: only the state is wanted
  index o_stride[3];
  const index* offsets = nullptr;  // of packed sequences, in tokens
  float value = 1;                 // 0: nothing is written
  bool watch = false;              // o lies on an input: a block cannot scan again
};

struct tensor_maps {
  CUtensorMap q, k, c, p, v, o, g;
};

// Numbers of the tokens of a chunk, made by the prepare warps for the chain: o and the residual are
//   R_t = value z_t - erase S^T c_t,   o_t = read S^T q_t + sum_s P_ts U_s,   S <- decay S + sum_s write_s k_s U_s^T.
// Where the erase has a writer p of its own, what is read is U, and z is written beside it:
//   R_t = erase S^T c_t + sum_s E_ts v_s,   o_t = ... + sum_s Q_ts v_s,   S <- decay S + sum_s (write_s p_s U_s^T + gain_s k_s v_s^T).
template <int C, bool Two>
struct chunk_scalars {
  float erase[C], value[C], read[C], write[C], gain[Two ? C : 1];
  float decay;
  int end;       // the first token of the first half that holds a number that is not finite; C where none does, or none looks
};

// Byte offsets in shared memory.
template <class P, int K, tensor_tuning X>
struct tensor_layout {
  static constexpr bool erases = P::axes.erase != weft::erase::none, decays = P::axes.decay != weft::decay::none;
  static constexpr bool channels = P::axes.decay == weft::decay::per_channel;
  static constexpr structure form = structure_of<P>();
  // The inputs that lie in tiles: q, v, and the writer and the erase reader where they are inputs of their own.
  static constexpr bool loads_k = form.k >= 0, loads_c = erases && form.c >= 0 && form.c != form.k;
  static constexpr bool makes_c = erases && form.c < 0, makes_z = form.z < 0;
  static constexpr bool two = P::axes.erase == weft::erase::two_writers;
  using scalars_type = chunk_scalars<X.chunk, two>;
  static constexpr int C = X.chunk, halves = C / 16, outputs = halves / X.micro, groups = X.prepare_groups, blocks = X.chain_rows / 16;
  static_assert(C == 32, "weft: a chunk is two blocks of 16 tokens: a prepare warp for each, and a lane for each token");

  static constexpr int stages = 2 * groups + 1;  // chunks between their load and the store of their output
  static constexpr int slots = groups + 1;       // chunks prepared and not yet folded
  static constexpr int ring = 8;                 // barriers of each kind; more than chunks are under way
  static_assert(stages <= ring);

  static constexpr int key_bytes = C * K * 2, keys = 1 + loads_k + loads_c + two;
  static constexpr int columns = X.slice < 64 ? 64 : X.slice;  // of the tile of v: the copy engine brings 64, also where others have half of them
  static constexpr int stage_bytes = keys * key_bytes + C * columns * 2;
  static constexpr bool copies_out = X.slice == columns;  // else the chain stores o
  static constexpr int pair_stride = (C + 8) * 2, pair_bytes = C * pair_stride;
  // Where channels decay: the writers with what they lose until the chunk's end, and the decay of the chunk.
  static constexpr int tail_bytes = channels ? (1 + two) * key_bytes : 0, decay_bytes = channels ? K * 4 : 0;
  static constexpr int pairs = tail_bytes, scalars = pairs + (two ? 4 : 2) * pair_bytes, decay = scalars + (static_cast<int>(sizeof(scalars_type)) + 15) / 16 * 16;
  static constexpr int slot_bytes = (decay + decay_bytes + 127) / 128 * 128;
  static constexpr int gate_bytes = channels ? C * K * 4 : 0;  // of a group, as they come: float
  // Of a prepare warp: G and the writers' factors of all tokens, its diagonal block of T (transposed), that block's inverse.
  static constexpr int diagonal_stride = 20, inverse_stride = 48;
  static constexpr int diagonal = 2 * C * 4, inverse = diagonal + 16 * diagonal_stride * 4, warp_bytes = inverse + 16 * inverse_stride;
  // Of a prepare group: the block of T below the diagonal, and those. 
  static constexpr int below_bytes = 16 * inverse_stride;
  // Where channels decay: the first half's writers with what they lose until its end, and what each half loses.
  static constexpr int writers = below_bytes + halves * warp_bytes, totals = writers + (channels ? (1 + two) * 16 * K * 2 : 0);
  static constexpr int group_bytes = (totals + (channels ? 2 * K * 4 : 0) + 127) / 128 * 128, scratch_turns = channels ? 1 : 2;

  static constexpr int gates = stages * stage_bytes, slot = gates + groups * gate_bytes, scratch = slot + slots * slot_bytes;
  static constexpr int barriers = scratch + scratch_turns * groups * group_bytes, voted = barriers + (3 * ring + groups) * 8, bytes = voted + 16;
  static constexpr bool fits = bytes <= 227 * 1024;
};

// A chunk's number and where it lies.
template <class L>
struct chunk_place {
  int n, stage, slot;

  static __device__ chunk_place at(int n) { return {n, n % L::stages, n % L::slots}; }
  __device__ void advance(int by) {
    n += by, stage += by, slot += by;
    if (stage >= L::stages) stage -= L::stages;
    if (slot >= L::slots) slot -= L::slots;
  }
  // A chunk that much earlier or later, for its tiles.
  __device__ int stage_after(int by) const {
    const int s = stage + by;
    return s < 0 ? s + L::stages : s >= L::stages ? s - L::stages : s;
  }
};

// A block's place in the work, and its shared memory.
template <class P, class T, int K, tensor_tuning X>
struct tensor_block {
  using L = tensor_layout<P, K, X>;
  static constexpr int C = X.chunk;

  unsigned char* memory;
  word base;
  lane_parts swizzled, padded, of_steps;
  int head, key_head, column, within;  // the first value column of the tile of v; the slice's in it
  index sequence, batch, begin;  // the first row
  int tokens, chunks;            // rows: a micro-step is a token of the chain

  __device__ tensor_block(const tensor_job<P, T>& job, unsigned char* shared) : base(ptx::shared_address(shared)) {
    ptx::pin(base);
    memory = static_cast<unsigned char*>(__cvta_shared_to_generic(base));
    const int lane = ptx::lane();
    swizzled = lane_parts::swizzled(lane), padded = lane_parts::padded(lane, L::pair_stride), of_steps = lane_parts::swizzled(lane, X.micro);
    const int slices = job.x.value_dim / X.slice;
    const index head_row = blockIdx.x / slices;
    column = static_cast<int>(blockIdx.x % slices) * X.slice, within = column % L::columns, column -= within;
    head = static_cast<int>(head_row % job.x.value_heads);
    key_head = head / job.x.group;
    sequence = head_row / job.x.value_heads;
    batch = job.offsets ? 0 : sequence;
    begin = job.offsets ? job.offsets[sequence] : 0;
    tokens = static_cast<int>((job.offsets ? job.offsets[sequence + 1] : job.x.time) - begin);
    begin *= X.micro, tokens *= X.micro;
    chunks = (tokens + C - 1) / C;
  }
  __device__ int length(int n) const { return n == chunks - 1 ? tokens - n * C : C; }

  __device__ swizzled_tile tile(int stage, int number) const { return {base + static_cast<word>(stage * L::stage_bytes + number * L::key_bytes), C, swizzled}; }
  __device__ swizzled_tile q(int stage) const { return tile(stage, 0); }
  __device__ swizzled_tile q_of_steps(int stage) const { return {q(stage).base, C, of_steps}; }  // a row for each step
  __device__ swizzled_tile k(int stage) const { return tile(stage, 1); }
  __device__ swizzled_tile c(int stage) const { return tile(stage, L::loads_c ? 2 : 1); }  // the erase readers
  __device__ swizzled_tile v(int stage) const { return tile(stage, L::keys); }
  __device__ swizzled_tile p(int stage) const { return tile(stage, L::keys - 1); }  // the erase's own writers
  // The inverse [s][t] and the read pairs [t][s] of a chunk (v's own: Q, E), and its scalars.
  __device__ padded_tile pair_tile(int slot, int number) const {
    return {base + static_cast<word>(L::slot + slot * L::slot_bytes + L::pairs + number * L::pair_bytes), L::pair_stride, padded};
  }
  __device__ padded_tile inverse(int slot) const { return pair_tile(slot, 0); }
  __device__ padded_tile pairs(int slot, int writer = 0) const { return pair_tile(slot, 1 + writer); }
  __device__ padded_tile erased_values(int slot) const { return pair_tile(slot, 3); }
  __device__ typename L::scalars_type& scalars(int slot) const {
    return *reinterpret_cast<typename L::scalars_type*>(memory + L::slot + slot * L::slot_bytes + L::scalars);
  }
  __device__ swizzled_tile tail(int slot, int writer = 0) const {
    return {base + static_cast<word>(L::slot + slot * L::slot_bytes + writer * L::key_bytes), C, swizzled};
  }
  __device__ float* decay(int slot) const { return reinterpret_cast<float*>(memory + L::slot + slot * L::slot_bytes + L::decay); }

  // Chunk n has been prepared; folded; loaded. Each ends phase n / ring of a barrier.
  __device__ word prepared(int n) const { return base + static_cast<word>(L::barriers + n % L::ring * 8); }
  __device__ word folded(int n) const { return prepared(n) + L::ring * 8; }
  __device__ word loaded(int n) const { return prepared(n) + 2 * L::ring * 8; }
  __device__ word gates_loaded(int group) const { return base + static_cast<word>(L::barriers + (3 * L::ring + group) * 8); }
  static __device__ void wait(word barrier, int n) { ptx::wait(barrier, static_cast<word>(n / L::ring & 1)); }

  __device__ void init_barriers() const {
    if (threadIdx.x == 0) {
      for (int i = 0; i < L::ring; ++i) {
        ptx::barrier_init(prepared(i), 32 * L::halves);  // every lane: each tells of its own writes
        ptx::barrier_init(folded(i), 32 * X.chain_warps());
        ptx::barrier_init(loaded(i), 1);
        if (L::channels && i < L::groups) ptx::barrier_init(gates_loaded(i), 1);
      }
      ptx::barrier_init(base + L::voted, X.threads());
      ballot() = 0;
      ptx::barrier_init_done();
    }
    __syncthreads();
  }
  // Whether any thread says so. Once in the life of the barriers; nobody works on any more then.
  __device__ bool any_of_threads(bool mine) const {
    if (mine) ballot() = 1;
    ptx::arrive(base + L::voted);
    ptx::wait(base + L::voted, 0);
    return ballot() != 0;
  }
  // They can be made again then, and tiles be loaded again.
  __device__ void end_barriers() const {
    ptx::publish_to_copies();
    __syncthreads();
    if (threadIdx.x == 0)
      for (word at = prepared(0); at <= base + L::voted; at += 8)
        if (L::channels || at < gates_loaded(0) || at == base + L::voted) ptx::barrier_end(at);
  }
  __device__ volatile int& ballot() const { return *reinterpret_cast<volatile int*>(memory + L::voted + 8); }
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
