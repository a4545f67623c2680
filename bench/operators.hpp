// Each file of benchmarks puts its operators on the list; few a file, so that the compiler's work spreads over the cores.
#pragma once

namespace bench {

void add_linear();
void add_constant_decay();
void add_gated();
void add_state_space();
void add_delta();
void add_channel_delta();
void add_delta_product();
void add_low_rank();
void add_attention();
void add_attention_gradients();
void add_hybrid();
void add_layer_operations();
void add_gpu();

}  // namespace bench
