/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent sets before it loads the programs; constants to the verifier. */
#ifndef KG_CONFIG_H
#define KG_CONFIG_H

#include <linux/types.h>

#include "types.h"

/* A worker that has been busy for longer gets no new connection while another can take
 * it. Far above any ordinary turn of a reactor, far below a client's patience. */
const volatile __u64 kg_hung_after_ns = 500000000;

/* The number of entries of kg_backends, by which those of kg_backend_load are found. */
const volatile __u32 kg_backends_size = KG_BACKENDS;

/* The number of entries of kg_rate. */
const volatile __u32 kg_rate_size = KG_RATES;

/* What nobody can guess: which sources share a cell of kg_rate. */
const volatile __u64 kg_secret = 0;

/* The UDP port at which nodes hand each other packets, network byte order; 0: they do not. */
const volatile __be16 kg_tunnel_port = 0;

/* This node's id; only with kg_tunnel_port. */
const volatile __u32 kg_self = 0;

/* Whether packets to pods of other nodes are handed to those nodes. */
const volatile __u8 kg_dsr = 0;

/* Whether packets of connections that other nodes have are handed to those nodes. */
const volatile __u8 kg_fabric_on = 0;

/* Whether what no honest host sends is dropped; see strict.h. */
const volatile __u8 kg_strict = 1;

/* Whether the loopback interface is an uplink, and its index in every namespace. */
const volatile __u8 kg_uplink_loopback = 0;
#define KG_LOOPBACK 1

/* Whether SYNs to the proxies are answered by cookies when there are too many of them, and
 * how many that is: on one CPU in a tenth of a second; 0: any. See cookie.h. */
const volatile __u8 kg_syn_cookies = 0;
const volatile __u32 kg_syn_doubt = 0;

/* The segment sizes that such an answer offers, by the smallest MTU of the uplinks. */
const volatile __u16 kg_mss_v4 = 1460;
const volatile __u16 kg_mss_v6 = 1440;

#endif
