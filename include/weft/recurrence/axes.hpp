// The choices that tell the gated linear recurrences apart. One token of one head does
//
//   S~_t = Diag(exp g_t) S_{t-1}
//   r_t  = S~_t^T c_t  (erase reads after the decay: post)  |  S_{t-1}^T c_t  (before it: pre)
//   S_t  = S~_t + k_t z_t^T - p_t r_t^T
//   o_t  = S_t^T q_t   (inclusive)  |  S_{t-1}^T q_t + (q_t . u k_t) z_t  (exclusive, with a bonus u)
//
// with S [key_dim, value_dim]. `axes` fixes at compile time which of these parts a system has.
#pragma once

#include "../core/config.hpp"

namespace weft {
inline namespace v1 {

enum class decay { none, per_head, per_token, per_channel };
enum class erase {
  none,         // class L: linear attention, GLA, Mamba-2 ...
  tied,         // class D: the delta rules, p = k
  two_writers,  // class R: RWKV-7, DPLR, an own p
};
enum class timing { post, pre };
enum class read { inclusive, exclusive_bonus };

struct axes {
  weft::decay decay = weft::decay::none;
  weft::erase erase = weft::erase::none;
  weft::timing timing = weft::timing::post;
  weft::read read = weft::read::inclusive;
  bool normalised = false;  // o is divided by q . (sum of the keys written), carried as a second part of the state
  bool micro_steps = false; // several writes a token (inputs of the micro_ roles), one decay and one read
};

// What a policy makes of the inputs of one token at one key channel.
template <class R>
struct key_terms {
  R q{};  // reader
  R k{};  // writer
  R c{};  // erase reader
  R p{};  // erase writer of class R
  R g{};  // log-decay, natural
  R u{};  // bonus of the exclusive read
};

}  // namespace v1
}  // namespace weft
