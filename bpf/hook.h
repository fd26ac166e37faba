/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet where a program sees it: in XDP or in tc, with one set of functions for both. */
#ifndef KG_HOOK_H
#define KG_HOOK_H

#include "tunnel.h"

struct hook {
	struct __sk_buff *skb;
	void *data; /* the packet's first byte */
	void *end;  /* one past its last */
	/* The packet's way between nodes; set where kg_tunnel_port is. */
	const struct passage *in;
	struct passage *out;
	struct xdp_md *xdp;
	bool tc; /* skb is set, else xdp: a constant, so that no program holds both ways */
};

#endif
