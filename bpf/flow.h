/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* L4 flows: finding, opening, ageing. */
#ifndef KG_FLOW_H
#define KG_FLOW_H

#include "balance.h"
#include "clock.h"
#include "packet.h"

#define SECONDS(n) ((__u32)((n) * 1000000000ULL >> KG_FLOW_TICK)) /* in ticks */

/* Backends that are tried for a new flow before it is refused; see open_flow. */
#define KG_TRIES 4

/* fins */
#define FROM_CLIENT 1
#define FROM_BACKEND 2

/* now_ticks returns the time in the unit of kg_flow.seen. */
static __always_inline __u32 now_ticks(void)
{
	return now_ns() >> KG_FLOW_TICK;
}

/* lifetime returns how long a flow in this state may be silent, in ticks. Open TCP
 * connections have the time that kube-proxy gives them. */
static __always_inline __u32 lifetime(__u8 state, __u8 protocol)
{
	switch (state) {
	case KG_FLOW_OPENING:
		return SECONDS(60);
	case KG_FLOW_OPEN:
		return protocol == IPPROTO_UDP ? SECONDS(180) : SECONDS(86400);
	case KG_FLOW_HALF_CLOSED:
		return SECONDS(3600);
	}
	return SECONDS(60);
}

static __always_inline bool expired(const struct kg_flow *flow, __u8 protocol, __u32 now)
{
	__u32 seen = flow->seen;

	return now > seen && now - seen > lifetime(flow->state, protocol);
}

/* reverse_key returns the key of a flow's packets to the client. */
static __always_inline void reverse_key(struct kg_flow_key *reverse,
					const struct kg_flow_key *forward,
					const struct kg_address *backend, __be16 port)
{
	reverse->source = *backend;
	reverse->destination = forward->source;
	reverse->source_port = port;
	reverse->destination_port = forward->source_port;
	reverse->protocol = forward->protocol;
	reverse->direction = KG_TO_CLIENT;
	reverse->pad = 0;
}

/* store_in writes both directions of a flow, and reports whether there was place. One after
 * the other in the same place on the stack: before 6.3 the kernel takes keys and values
 * from there, and not from the arguments of a function that is not static. */
static __always_inline bool store_in(void *map, const struct kg_flow_key *key,
				     const struct kg_flow *flow)
{
	struct kg_flow_key at;
	struct kg_flow value = *flow;

	value.address = key->destination;
	value.port = key->destination_port;
	value.fins = 0;
	reverse_key(&at, key, &flow->address, flow->port);
	if (bpf_map_update_elem(map, &at, &value, BPF_ANY))
		return false;
	at = *key;
	value.address = flow->address;
	value.port = flow->port;
	value.fins = flow->fins;
	return !bpf_map_update_elem(map, &at, &value, BPF_ANY);
}

/* store_open and store_opening are store_in for the two maps. Not static, so that they have
 * a stack of their own. */
__noinline int store_open(const struct kg_flow_key *key, const struct kg_flow *flow)
{
	return key && flow && store_in(&kg_flows, key, flow);
}

__noinline int store_opening(const struct kg_flow_key *key, const struct kg_flow *flow)
{
	return key && flow && store_in(&kg_opening, key, flow);
}

/* find_flow returns the flow of a key in one of the two maps, or NULL. *open says in which. */
static __always_inline struct kg_flow *find_flow(const struct kg_flow_key *key, bool *open)
{
	struct kg_flow *flow = bpf_map_lookup_elem(&kg_flows, key);

	*open = flow;
	return flow ? flow : bpf_map_lookup_elem(&kg_opening, key);
}

/* note_close follows the end of a TCP connection. */
static __always_inline void note_close(struct kg_flow *flow, const struct packet *p, __u8 side)
{
	if (p->fin) {
		flow->fins |= side;
		flow->state = flow->fins == (FROM_CLIENT | FROM_BACKEND) ? KG_FLOW_CLOSED
									 : KG_FLOW_HALF_CLOSED;
	}
	if (p->rst)
		flow->state = KG_FLOW_CLOSED;
}

/*
 * keep notes that a flow's client has been heard again. A flow that was opening moves to
 * kg_flows. Once a tick both entries are looked after: the one towards the client is
 * used by replies alone and could have been forgotten, as least recently used, without
 * the other.
 */
static __always_inline void keep(const struct packet *p, struct kg_flow *flow, bool open, __u32 now)
{
	if (p->fin || p->rst)
		note_close(flow, p, FROM_CLIENT);
	if (open && flow->seen == now)
		return;
	flow->seen = now;
	if (flow->state == KG_FLOW_OPENING)
		flow->state = KG_FLOW_OPEN;
	if (open) {
		struct kg_flow_key back;

		reverse_key(&back, &p->key, &flow->address, flow->port);
		if (bpf_map_lookup_elem(&kg_flows, &back))
			return;
	}
	store_open(&p->key, flow);
}

/* taken reports whether the packets of a backend to this client belong to another flow:
 * one client port may talk to two listeners, but not through both to one backend's port,
 * for the backend could not tell the two apart. Not static, as store_open. */
__noinline int taken(const struct kg_flow_key *key, const struct kg_address *backend, __be16 port,
		     __u32 now)
{
	struct kg_flow_key back;
	struct kg_flow *other;
	bool open;

	if (!key || !backend)
		return true;
	reverse_key(&back, key, backend, port);
	other = find_flow(&back, &open);
	if (!other || other->port != key->destination_port ||
	    __builtin_memcmp(&other->address, &key->destination, sizeof(other->address))) {
		if (!other || other->state == KG_FLOW_CLOSED || expired(other, key->protocol, now))
			return false;
		return true;
	}
	return false;
}

#endif
