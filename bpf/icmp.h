/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about packets of L4 flows. They quote the packet as it was where the error
 * was found, so whoever gets them must find its own addresses and ports in the quote: the
 * pod its own instead of the ingress address, the client the ingress address instead of
 * the pod. Without that neither side would learn the path's MTU (RFC 5508 section 4).
 *
 * The quote's transport checksum is left as it is: it is cut off more often than not, and
 * nobody verifies it.
 */
#ifndef KG_ICMP_H
#define KG_ICMP_H

#include "l4.h"

/* A quoted packet. */
struct quote {
	struct kg_flow_key key; /* as quoted */
	void *ip;
	__be16 *ports; /* source, destination */
};

/* is_error reports whether an ICMP message quotes a packet. */
static __always_inline bool is_error(const struct packet *p)
{
	__u8 type;

	if (!p->transport)
		return false;
	type = ((struct icmp *)p->transport)->type;
	if (p->v6)
		return type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER;
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER;
}

/* read_quote reads the quoted packet, and reports whether it is TCP or UDP and has ports: a later
 * fragment has none. */
static __always_inline bool read_quote(const struct packet *p, struct quote *q)
{
	struct cursor c = p->rest;

	if (p->v6) {
		struct ipv6hdr *ip = take_ipv6(&c);

		if (!ip)
			return false;
		q->ip = ip;
		__builtin_memcpy(&q->key.source, &ip->saddr, sizeof(q->key.source));
		__builtin_memcpy(&q->key.destination, &ip->daddr, sizeof(q->key.destination));
		q->key.protocol = ip->nexthdr;
		/* A fragment: the path's MTU is learnt by those that are sent in pieces too. */
		if (ip->nexthdr == IPPROTO_FRAGMENT) {
			struct fragment *fragment = take(&c, sizeof(*fragment));

			if (!fragment || fragment->offset & bpf_htons(0xfff8))
				return false;
			q->key.protocol = fragment->next;
		}
	} else {
		struct iphdr *ip = take_ipv4(&c);

		if (!ip || ip->frag_off & bpf_htons(0x1fff))
			return false;
		q->ip = ip;
		address_of_v4(&q->key.source, ip->saddr);
		address_of_v4(&q->key.destination, ip->daddr);
		q->key.protocol = ip->protocol;
	}
	if (q->key.protocol != IPPROTO_TCP && q->key.protocol != IPPROTO_UDP)
		return false;
	q->ports = take(&c, 4);
	if (!q->ports)
		return false;
	q->key.source_port = q->ports[0];
	q->key.destination_port = q->ports[1];
	return true;
}

/* turn makes the key of a quoted packet that of the packets in the other direction. */
static __always_inline void turn(struct kg_flow_key *key, enum kg_direction direction)
{
	struct kg_address address = key->source;
	__be16 port = key->source_port;

	key->source = key->destination;
	key->source_port = key->destination_port;
	key->destination = address;
	key->destination_port = port;
	key->direction = direction;
}

/* fix_icmp corrects the checksum of an ICMP message; a device never finishes those. */
static __always_inline void fix_icmp(const struct packet *p, __u64 diff)
{
	fix(&((struct icmp *)p->transport)->check, diff);
}

/* requote writes another source (or destination) into the quoted packet and corrects the
 * message's checksum. In IPv4 a changed address and the quoted header's own corrected
 * checksum cancel each other out. */
static __always_inline void requote(const struct packet *p, struct quote *q, bool source,
				    const struct kg_address *from, const struct kg_flow *to)
{
	__u64 diff = write_address(q->ip, p->rest.end, p->v6, source, from, &to->address);
	__be16 *port = q->ports + (source ? 0 : 1);

	if (!p->v6)
		diff = 0;
	diff += difference(*port, to->port);
	*port = to->port;
	fix_icmp(p, diff);
}

/* icmp_to_backend passes an error that somebody on the way to the client sent about a
 * reply, on to the backend that sent the reply. */
static __always_inline enum verdict icmp_to_backend(const struct hook *h, struct packet *p)
{
	struct quote q = {};
	struct kg_flow *flow;
	__u64 diff;
	bool settled;

	if (!is_error(p) || !read_quote(p, &q))
		return PASSED;
	turn(&q.key, KG_TO_BACKEND);
	flow = find_flow(&q.key, &settled);
	if (!flow)
		return PASSED;
	if (kg_tunnel_port && flow->node && flow->node != kg_self)
		return forward(h, p, flow, L4_ICMP);
	requote(p, &q, true, &q.key.destination, flow);
	diff = write_address(p->ip, p->rest.end, p->v6, false, &p->key.destination, &flow->address);
	if (p->v6)
		fix_icmp(p, diff);
	return L4_ICMP;
}

#endif
