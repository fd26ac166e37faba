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

/* Both sides have sent FIN. */
#define KG_FLOW_FINS (KG_FLOW_CLIENT_FIN | KG_FLOW_BACKEND_FIN)

/* How far a number may be ahead of kg_flow.expected and still confirm a flow: data may have been
 * sent before the handshake ended. A blind guess succeeds once in 65,536 times. */
#define KG_CONFIRM_WINDOW 65536

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

/* is_one_way reports whether this node sees only the client's packets of a flow: they are
 * handed to the backend's node, which answers the client itself (DSR). */
static __always_inline bool is_one_way(const struct kg_flow *flow)
{
	return kg_dsr && kg_tunnel_port && flow->node && flow->node != kg_self;
}

/* leads_to reports whether a flow's packets are given this address and port. */
static __always_inline bool leads_to(const struct kg_flow *flow, const struct kg_address *address,
				     __be16 port)
{
	return flow->port == port &&
	       !__builtin_memcmp(&flow->address, address, sizeof(flow->address));
}

/*
 * store_in writes both directions of a flow, and reports whether there was room. One after
 * the other in the same place on the stack: before 6.3 the kernel takes keys and values
 * from there, and not from the arguments of a function that is not static.
 *
 * used: the entries count as used at once, by a lookup. A map of this type that becomes full
 * pushes out first what was never looked up, which are the newest entries where all others
 * were, and be they of connections that are long gone.
 */
static __always_inline bool store_in(void *map, const struct kg_flow_key *key,
				     const struct kg_flow *flow, struct kg_flow_key *at, bool used)
{
	struct kg_flow value = *flow;

	value.address = key->destination;
	value.port = key->destination_port;
	value.marks = 0;
	reverse_key(at, key, &flow->address, flow->port);
	if (bpf_map_update_elem(map, at, &value, BPF_ANY))
		return false;
	if (used)
		bpf_map_lookup_elem(map, at);
	*at = *key;
	value.address = flow->address;
	value.port = flow->port;
	value.marks = flow->marks;
	if (bpf_map_update_elem(map, at, &value, BPF_ANY))
		return false;
	if (used)
		bpf_map_lookup_elem(map, at);
	return true;
}

/* leave_opening removes both directions of a flow from kg_opening. at: room on the stack. */
static __always_inline void leave_opening(const struct kg_flow_key *key, const struct kg_flow *flow,
					  struct kg_flow_key *at)
{
	struct kg_flow *reverse;

	*at = *key;
	bpf_map_delete_elem(&kg_opening, at);
	reverse_key(at, key, &flow->address, flow->port);
	/* Another listener's flow may have it by now. */
	reverse = bpf_map_lookup_elem(&kg_opening, at);
	if (reverse && leads_to(reverse, &key->destination, key->destination_port))
		bpf_map_delete_elem(&kg_opening, at);
}

/*
 * store_settled puts a flow into kg_flows or kg_loose; confirmed: one that is in kg_opening, which
 * it leaves. That costs less than to wait until it is pushed out: a full map of this type pushes
 * out an entry for each that comes, which by then is in no cache. And flows that are confirmed
 * take no place from those that are not. Not static, as store_opening.
 */
__noinline int store_settled(const struct kg_flow_key *key, const struct kg_flow *flow,
			     int confirmed)
{
	struct kg_flow_key at;
	bool stored;

	if (!key || !flow)
		return false;
	if (key->protocol == IPPROTO_UDP || is_one_way(flow))
		stored = store_in(&kg_loose, key, flow, &at, false);
	else
		stored = store_in(&kg_flows, key, flow, &at, true);
	if (stored && confirmed)
		leave_opening(key, flow, &at);
	return stored;
}

/* store_opening puts a flow into kg_opening. Not static, so that it has a stack of its own. */
__noinline int store_opening(const struct kg_flow_key *key, const struct kg_flow *flow)
{
	struct kg_flow_key at;

	return key && flow && store_in(&kg_opening, key, flow, &at, false);
}

/* find_settled returns the flow of a key in kg_flows or kg_loose, or NULL. */
static __always_inline struct kg_flow *find_settled(const struct kg_flow_key *key)
{
	struct kg_flow *flow;

	if (key->protocol == IPPROTO_UDP)
		return bpf_map_lookup_elem(&kg_loose, key);
	flow = bpf_map_lookup_elem(&kg_flows, key);
	if (!flow && kg_dsr)
		flow = bpf_map_lookup_elem(&kg_loose, key);
	return flow;
}

/* delete_settled removes one direction of a flow. */
static __always_inline void delete_settled(const struct kg_flow_key *key)
{
	if (key->protocol != IPPROTO_UDP)
		bpf_map_delete_elem(&kg_flows, key);
	if (key->protocol == IPPROTO_UDP || kg_dsr)
		bpf_map_delete_elem(&kg_loose, key);
}

/* find_opening returns the flow of a key in kg_opening, or NULL. */
static __always_inline struct kg_flow *find_opening(const struct kg_flow_key *key)
{
	struct kg_flow *flow = bpf_map_lookup_elem(&kg_opening, key);

	return flow && flow->state != KG_FLOW_MOVED ? flow : NULL;
}

/* find_flow returns the flow of a key wherever it is, or NULL. *settled says whether it is
 * not in kg_opening. */
static __always_inline struct kg_flow *find_flow(const struct kg_flow_key *key, bool *settled)
{
	struct kg_flow *flow = find_settled(key);

	*settled = flow;
	return flow ? flow : find_opening(key);
}

/* find_leading returns the flow of a key that leads to a backend, or NULL: an older connection
 * with the same key may lead to another one. */
static __always_inline struct kg_flow *find_leading(const struct kg_flow_key *key,
						    const struct kg_address *backend, __be16 port)
{
	struct kg_flow *flow = find_settled(key);

	if (flow && leads_to(flow, backend, port))
		return flow;
	flow = find_opening(key);
	return flow && leads_to(flow, backend, port) ? flow : NULL;
}

/* note_close follows the end of a TCP connection. side: which of the two sent the packet. */
static __always_inline void note_close(struct kg_flow *flow, const struct packet *p,
				       enum kg_flow_mark side)
{
	if (p->fin) {
		flow->marks |= side;
		flow->state = (flow->marks & KG_FLOW_FINS) == KG_FLOW_FINS ? KG_FLOW_CLOSED
									   : KG_FLOW_HALF_CLOSED;
	}
	if (p->rst)
		flow->state = KG_FLOW_CLOSED;
}

/* has_ended reports whether a settled flow cannot have another packet: it is expired, or both
 * sides have sent FIN. A RST is not enough, since anybody can forge one. */
static __always_inline bool has_ended(const struct kg_flow *flow, __u8 protocol, __u32 now)
{
	return expired(flow, protocol, now) || (flow->marks & KG_FLOW_FINS) == KG_FLOW_FINS;
}

/*
 * confirms reports whether a packet of a client proves that the flow in kg_opening is not
 * forged. TCP: the client acknowledges what the backend sent, the SYN+ACK if it was seen; who
 * uses somebody else's address does not see that, and guesses the number once in 65,536 times.
 *
 * There is no such proof of a one-way flow, nor in UDP. A one-way TCP flow is believed when a
 * second packet continues the first; UDP when the backend has replied and the client goes on.
 * These flows have a table of their own, kg_loose, so that forged ones push out none that is
 * proven.
 */
static __always_inline bool confirms(const struct packet *p, const struct kg_flow *flow,
				     const void *end)
{
	const struct tcphdr *tcp = p->transport;
	__u32 number;

	if (p->key.protocol == IPPROTO_UDP)
		return flow->marks & KG_FLOW_ANSWERED || is_one_way(flow);
	if (!(flow->marks & KG_FLOW_ANSWERED) || !p->ack || p->rst ||
	    flow->state == KG_FLOW_CLOSED || (const void *)(tcp + 1) > end)
		return false;
	number = bpf_ntohl(is_one_way(flow) ? tcp->seq : tcp->ack_seq);
	return number - flow->expected < KG_CONFIRM_WINDOW;
}

/* expect_next notes in a new one-way flow which sequence number continues its first packet. */
static __always_inline void expect_next(const struct packet *p, struct kg_flow *flow,
					const void *end)
{
	const struct tcphdr *tcp = p->transport;

	if (p->key.protocol != IPPROTO_TCP || (const void *)(tcp + 1) > end)
		return;
	if (p->syn)
		flow->marks |= KG_FLOW_FROM_SYN;
	if (!is_one_way(flow))
		return;
	flow->expected = bpf_ntohl(tcp->seq) + p->syn;
	flow->marks |= KG_FLOW_ANSWERED;
}

/*
 * expect_again lets another packet confirm a flow that a packet other than a SYN opened, after
 * one that did not: a bulk transfer may have passed the number that was noted.
 */
static __always_inline void expect_again(const struct packet *p, struct kg_flow *flow,
					 const void *end)
{
	const struct tcphdr *tcp = p->transport;

	if (p->key.protocol != IPPROTO_TCP || flow->marks & KG_FLOW_FROM_SYN ||
	    (const void *)(tcp + 1) > end)
		return;
	if (is_one_way(flow))
		flow->expected = bpf_ntohl(tcp->seq);
	else if ((__s32)(bpf_ntohl(tcp->ack_seq) - flow->expected) >= KG_CONFIRM_WINDOW)
		flow->marks &= ~KG_FLOW_ANSWERED;
}

/*
 * keep notes that the client of a settled flow has been heard again. Once a tick both entries
 * are looked after: the one towards the client is used by replies alone and could have been
 * forgotten, as least recently used, without the other.
 */
static __always_inline void keep(const struct packet *p, struct kg_flow *flow, __u32 now)
{
	struct kg_flow_key back;

	if (p->fin || p->rst)
		note_close(flow, p, KG_FLOW_CLIENT_FIN);
	if (flow->seen == now)
		return;
	flow->seen = now;
	/* A closed flow may have lost the other entry to a flow that lives: see taken. */
	if (flow->state == KG_FLOW_CLOSED)
		return;
	reverse_key(&back, &p->key, &flow->address, flow->port);
	if (!find_settled(&back))
		store_settled(&p->key, flow, false);
}

/* settle moves a flow, a copy of its entry in kg_opening, to kg_flows or kg_loose. */
static __always_inline void settle(const struct kg_flow_key *key, struct kg_flow *settled)
{
	if (settled->state == KG_FLOW_OPENING)
		settled->state = KG_FLOW_OPEN;
	settled->marks &= KG_FLOW_FINS;
	settled->expected = 0;
	if (!store_settled(key, settled, true))
		return;
	/* The other table may hold an older flow of the key. */
	if (kg_dsr && key->protocol == IPPROTO_TCP) {
		if (is_one_way(settled))
			bpf_map_delete_elem(&kg_flows, key);
		else
			bpf_map_delete_elem(&kg_loose, key);
	}
}

/* Whose the packets of a backend to a client are. */
enum claim {
	UNCLAIMED,
	SAME_LISTENER,  /* of a settled flow between the same listener and client already */
	OTHER_LISTENER, /* of another listener's flow, which lives */
};

/* is_others reports whether an entry towards a client is of a living flow of another listener
 * than the one of key. */
static __always_inline bool is_others(const struct kg_flow *reverse, const struct kg_flow_key *key,
				      const struct kg_address *backend, __be16 port, __u32 now)
{
	struct kg_flow_key at = *key;
	struct kg_flow *flow;

	if (leads_to(reverse, &key->destination, key->destination_port))
		return false;
	at.destination = reverse->address;
	at.destination_port = reverse->port;
	flow = find_leading(&at, backend, port);
	return flow && flow->state != KG_FLOW_CLOSED && !expired(flow, key->protocol, now);
}

/*
 * taken says whose the packets of a backend to this client are: one client port may talk to two
 * listeners, but not through both to one backend's port, for the backend could not tell the two
 * apart. What a flow that has ended left there is removed. Not static, as store_opening.
 */
__noinline enum claim taken(const struct kg_flow_key *key, const struct kg_address *backend,
			    __be16 port, __u32 now)
{
	struct kg_flow_key back;
	struct kg_flow *reverse;

	if (!key || !backend)
		return OTHER_LISTENER;
	reverse_key(&back, key, backend, port);
	reverse = find_opening(&back);
	if (reverse && is_others(reverse, key, backend, port, now))
		return OTHER_LISTENER;
	reverse = find_settled(&back);
	if (!reverse)
		return UNCLAIMED;
	if (leads_to(reverse, &key->destination, key->destination_port))
		return SAME_LISTENER;
	if (is_others(reverse, key, backend, port, now))
		return OTHER_LISTENER;
	delete_settled(&back);
	return UNCLAIMED;
}

#endif
