/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which listener a packet or connection is for. */
#ifndef KG_LISTENER_H
#define KG_LISTENER_H

#include "maps.h"

/* find_listener returns the listener at the destination of a client's packets, or NULL. */
static __always_inline struct kg_listener *find_listener(const struct kg_flow_key *key)
{
	struct kg_listener_key at = {
		.address = key->destination,
		.port = key->destination_port,
		.protocol = key->protocol,
	};

	return bpf_map_lookup_elem(&kg_listeners, &at);
}

#endif
