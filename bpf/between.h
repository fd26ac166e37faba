/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the two ways in, kg_xdp and kg_ingress, do about packets between nodes: before a
 * packet is judged (receive), and after (hand_over, decapsulate). Without --fabric and --l4-dsr
 * nothing of it is left in the programs.
 */
#ifndef KG_BETWEEN_H
#define KG_BETWEEN_H

#include "handover.h"
#include "icmp.h"

/* begin_passage clears both passages: the packet did not arrive from another node, and is not yet
 * destined for one. */
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
static __always_inline enum verdict receive(const struct hook *h, enum located located,
					    struct headers *headers, struct passage *in)
{
	enum arrival arrival;

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
	default:
		return PASSED;
	}
}

/* hand_over sends a packet to the node that was found for it, and returns how it ends. It
 * comes last: afterwards nothing is known of the packet. */
static __always_inline enum verdict hand_over(const struct hook *h, const struct headers *headers,
					      const struct passage *in, const struct passage *out,
					      enum verdict verdict)
{
	struct parcel parcel = {};
	enum handed handed;

	if (!kg_tunnel_port)
		return verdict;
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
	default:
		return verdict;
	}
}

/* decapsulate takes off the outer headers of a packet that another node handed to this one, and
 * reports whether that worked. */
static __always_inline bool decapsulate(const struct hook *h, const struct headers *headers,
					const struct passage *in)
{
	enum handed unwrapped;

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
static __always_inline bool leaves(const struct passage *in, enum verdict verdict)
{
	return kg_tunnel_port && in->kind && !drops(verdict) && !goes_on(verdict) &&
	       !(verdict >= L4_FORWARDED && verdict <= L4_FRAGMENT);
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
static __always_inline enum verdict to_proxy(const struct hook *h, struct packet *p,
					     const struct headers *headers)
{
	bool connected = is_connected(p);
	const struct kg_flow_key *key = &p->key;
	struct kg_listener *listener;
	struct quote q = {};

	if (!h->tc && (h->in->kind || !p->check))
		return PASSED; /* kg_ingress does it: see leaves */
	if (!p->check) {
		if (!is_error(p) || !read_quote(p, &q))
			return PASSED;
		turn(&q.key, KG_TO_BACKEND);
		key = &q.key;
		connected = key->protocol == IPPROTO_TCP;
	}
	listener = find_listener(key);
	if (!listener || (p->check && listener->mode != KG_MODE_L7))
		return PASSED;
	if (connected && listener->mode == KG_MODE_L7 && has_connection(h, key, headers))
		return PASSED;
	return to_owner(h, p, key, connected);
}

#endif
