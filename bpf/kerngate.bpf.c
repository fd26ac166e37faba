/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The object that the agent loads: one file per hook, one set of maps.
 */
#include "kernel.h"

#include "config.h"
#include "maps.h"

#include "lookup.bpf.c"
#include "publish.bpf.c"
#include "quic.bpf.c"
#include "tc.bpf.c"
#include "xdp.bpf.c"

/* Keeps types in BTF that no map names, for the generated Go (loader/abi). */
const enum kg_constant *kg_constant_type __attribute__((unused));
const enum kg_table *kg_table_type __attribute__((unused));
const struct kg_write *kg_write_type __attribute__((unused));
const struct kg_write_list *kg_write_list_type __attribute__((unused));
const enum kg_address_flag *kg_address_flag_type __attribute__((unused));
const enum kg_direction *kg_direction_type __attribute__((unused));
const enum kg_health *kg_health_type __attribute__((unused));
const enum kg_flow_state *kg_flow_state_type __attribute__((unused));
const enum kg_flow_mark *kg_flow_mark_type __attribute__((unused));
const enum kg_node_address_flag *kg_node_address_flag_type __attribute__((unused));
const enum kg_node_state *kg_node_state_type __attribute__((unused));
const enum kg_reason *kg_reason_type __attribute__((unused));
const enum kg_socket *kg_socket_type __attribute__((unused));
const enum kg_tunnel_kind *kg_tunnel_kind_type __attribute__((unused));
const enum kg_mode *kg_mode_type __attribute__((unused));
const enum kg_algorithm *kg_algorithm_type __attribute__((unused));
const enum kg_service_flag *kg_service_flag_type __attribute__((unused));
const enum kg_backend_flag *kg_backend_flag_type __attribute__((unused));
const enum kg_place *kg_place_type __attribute__((unused));
const enum kg_sieved *kg_sieved_type __attribute__((unused));
const struct kg_event *kg_event_type __attribute__((unused));
const enum kg_generation_state *kg_generation_state_type __attribute__((unused));
const enum kg_prefix_source *kg_prefix_source_type __attribute__((unused));

char _license[] SEC("license") = "Dual BSD/GPL";
