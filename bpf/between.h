/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the two ways in, kg_xdp and kg_ingress, do about packets between nodes: before a
 * packet is judged (receive), and after (hand_over, stay). Without --fabric and --l4-dsr
 * nothing of it is left in the programs.
 */
#ifndef KG_BETWEEN_H
#define KG_BETWEEN_H

#include "handover.h"
#include "icmp.h"

/* reason_of returns the counter of an end: the reasons of a program are in three runs, and
 * one. */
static __always_inline enum kg_reason reason_of(bool tc, enum end end)
{
	if (end < NODE_BACKEND)
		return (tc ? KG_INGRESS_NOT_IP : KG_XDP_NOT_IP) + end;
	if (end < SPOOFED_SOURCE)
		return (tc ? KG_INGRESS_NODE_BACKEND : KG_XDP_NODE_BACKEND) + (end - NODE_BACKEND);
	if (end == NO_PROXY)
		return tc ? KG_INGRESS_NO_PROXY : KG_XDP_NO_PROXY;
	if (end == COOKIE_SENT)
		return tc ? KG_INGRESS_COOKIE_SENT : KG_XDP_COOKIE_SENT;
	return (tc ? KG_INGRESS_SPOOFED_SOURCE : KG_XDP_SPOOFED_SOURCE) + (end - SPOOFED_SOURCE);
}

/* begin_passage makes a packet one that has come from nowhere and goes nowhere. */
static __always_inline void begin_passage(struct passage *in, struct passage *out)
{
	in->kind = 0;
	if (!kg_tunnel_port) /* nobody reads the rest */
		return;
	__builtin_memset(in, 0, sizeof(*in));
	__builtin_memset(out, 0, sizeof(*out));
}

/* receive looks whether a packet has come from another node. If so, the headers found are
 * from here on those inside. It returns PASSED if the packet may be judged. */
static __always_inline enum end receive(const struct hook *h, enum located located,
					struct headers *headers, struct passage *in)
{
	int arrival;

	if (!kg_tunnel_port || located != LOCATED || headers->protocol != IPPROTO_UDP)
		return PASSED;
	arrival = h->tc ? arrive_in_skb(h->skb, headers, in) : arrive_in_xdp(h->xdp, headers, in);
	switch (arrival) {
	case UNKNOWN_SENDER:
		return NODE_SENDER;
	case UNKNOWN_HEADER:
		return NODE_HEADER;
	case TOO_MANY_HOPS:
		return NODE_HOPS;
	}
	return PASSED;
}

/* hand_over sends a packet to the node that was found for it, and returns how it ends. It
 * comes last: afterwards nothing is known of the packet. */
static __always_inline enum end hand_over(const struct hook *h, const struct headers *headers,
					  const struct passage *in, const struct passage *out,
					  enum end end)
{
	struct parcel parcel = {};
	int handed;

	if (!kg_tunnel_port)
		return end;
	if (out->hops > KG_MAX_HOPS)
		return NODE_HOPS;
	if (!weigh(&parcel, h->data, h->end, headers, in))
		return NODE_NO_WAY;
	if (h->tc) {
		handed = find_way_in_skb(h->skb, &parcel, out);
		if (handed == SENT)
			handed = send_from_skb(h->skb, &parcel, out);
		else if (handed == TOO_BIG && answer_too_big(h->skb, &parcel))
			handed = NO_WAY;
	} else {
		handed = send_from_xdp(h->xdp, &parcel, out);
	}
	switch (handed) {
	case TOO_BIG:
		return NODE_TOO_BIG;
	case NO_WAY:
		return NODE_NO_WAY;
	case LEFT:
		return NODE_LEFT;
	}
	return end;
}

/* stay makes a packet that was handed to this node one as the client sent it, and reports
 * whether that worked. */
static __always_inline bool stay(const struct hook *h, const struct headers *headers,
				 const struct passage *in)
{
	int unwrapped;

	if (!kg_tunnel_port || !in->kind)
		return true;
	count(h->tc ? KG_INGRESS_NODE_ARRIVED : KG_XDP_NODE_ARRIVED);
	unwrapped = h->tc ? unwrap_in_skb(h->skb, headers, in) : unwrap_in_xdp(h->xdp, in);
	return unwrapped == SENT;
}

/*
 * leaves reports whether kg_xdp leaves a packet from another node in its outer headers, for
 * kg_ingress. That judges all that kg_xdp passes and has not given another address: without
 * them it would take the packet for one that has just come, and two nodes that disagree
 * about an owner would send it to each other for ever.
 */
static __always_inline bool leaves(const struct passage *in, enum end end)
{
	return kg_tunnel_port && in->kind && !drops(end) && !goes_on(end) &&
	       !(end >= L4_FORWARDED && end <= L4_FRAGMENT);
}

/* mode_of returns the mode of the listener at the destination, 0 if there is none. */
static __always_inline __u32 mode_of(const struct kg_flow_key *key)
{
	struct kg_listener_key listener_key = {
		.address = key->destination,
		.port = key->destination_port,
		.protocol = key->protocol,
	};
	struct kg_listener *listener = bpf_map_lookup_elem(&kg_listeners, &listener_key);

	return listener ? listener->mode : 0;
}

/* has_connection reports whether this node's stack has a TCP connection. */
static __always_inline bool has_connection(const struct hook *h, const struct kg_flow_key *key,
					   const struct headers *headers)
{
	if (h->tc)
		return has_socket_in_skb(h->skb, key, headers);
	return has_socket_in_xdp(h->xdp, key, headers);
}

/*
 * to_proxy returns how a packet to a listener of the proxies ends: PASSED if its connection
 * is here or comes here. An established one is looked for in the stack first; a datagram
 * (QUIC) goes by its addresses alone.
 *
 * An ICMP error goes where the packets do that it is about, be they the proxies' or of an
 * L4 flow that this node does not have.
 */
static __always_inline enum end to_proxy(const struct hook *h, struct packet *p,
					 const struct headers *headers)
{
	bool connected = is_connected(p);
	const struct kg_flow_key *key = &p->key;
	struct quote q = {};
	__u32 mode;

	if (!h->tc && (h->in->kind || !p->check))
		return PASSED; /* kg_ingress does it: see leaves */
	if (!p->check) {
		if (!is_error(p) || !read_quote(p, &q))
			return PASSED;
		turn(&q.key, KG_TO_BACKEND);
		key = &q.key;
		connected = key->protocol == IPPROTO_TCP;
	}
	mode = mode_of(key);
	if (!mode || (p->check && mode != KG_MODE_L7))
		return PASSED;
	if (connected && mode == KG_MODE_L7 && has_connection(h, key, headers))
		return PASSED;
	return to_owner(h, p, key, connected);
}

#endif
