/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How one node hands another a packet: as it came, behind headers of its own. They are
 * IP, UDP, and what Generic UDP Encapsulation calls its header with private data
 * (draft-ietf-intarea-gue section 3.2), in which the sender says what it wants.
 *
 * IPv4 travels in IPv4 and IPv6 in IPv6, so that nothing about a packet but its length
 * changes on the way. The UDP checksum is left out in both, which RFC 6935 allows for
 * tunnels: what counts is covered by the checksums of the packet inside, addresses included.
 * It makes the way cheaper and lets the kernel cut large packets to size behind us.
 *
 * A node believes only nodes that it knows, sent to its own address, and nothing inside but
 * packets to its ingress addresses.
 */
#ifndef KG_TUNNEL_H
#define KG_TUNNEL_H

#include "checksum.h"
#include "config.h"
#include "maps.h"
#include "packet.h"

/* Of what follows the UDP header. Other versions are refused. */
#define KG_TUNNEL_VERSION 1

/* Nodes that may hand on one packet: to the owner, to two earlier owners, to the backend. */
#define KG_MAX_HOPS 4

struct kg_tunnel {
	__u8 gue;         /* version 0, not a control message; words behind the first */
	__u8 protocol;    /* IPPROTO_IPIP or IPPROTO_IPV6 */
	__be16 gue_flags; /* none */
	__u8 version;     /* KG_TUNNEL_VERSION */
	__u8 kind;        /* enum kg_tunnel_kind */
	__u8 hops;        /* nodes that have handed it on, 1 to KG_MAX_HOPS */
	__u8 tries;       /* KG_TUNNEL_OWNER: index into kg_owners by which it comes here */
	struct kg_address backend; /* KG_TUNNEL_BACKEND, else zeros */
	__be16 port;               /* the same */
	__u16 pad;
};

#define KG_TUNNEL_GUE (sizeof(struct kg_tunnel) / 4 - 1)

struct outer_v4 {
	struct iphdr ip;
	struct udphdr udp;
	struct kg_tunnel tunnel;
};

struct outer_v6 {
	struct ipv6hdr ip;
	struct udphdr udp;
	struct kg_tunnel tunnel;
};

/* How a packet has come from another node, or goes to one. */
struct passage {
	struct kg_address backend;
	kg_node_id node; /* to which it goes */
	__be16 port;
	__u8 kind; /* enum kg_tunnel_kind; 0: does not */
	__u8 hops;
	__u8 tries;
	__u8 outer; /* bytes of the headers that it came behind, without Ethernet */
	__u8 link;  /* bytes of Ethernet and VLAN headers */
	__u8 pad;
};

/* What arrive finds out about a UDP packet. */
enum arrival {
	NOT_HANDED_OVER,
	HANDED_OVER,
	UNKNOWN_SENDER,
	UNKNOWN_HEADER,
	TOO_MANY_HOPS,
};

/* is_node reports whether an address is one of our nodes', with a flag or without it. */
static __always_inline bool is_node(const struct kg_address *address, __u32 flags)
{
	struct kg_node_address *known = bpf_map_lookup_elem(&kg_node_addresses, address);

	return known && known->flags == flags;
}

/* read_address reads one address of the IP header that was located, and reports whether it
 * is there. */
static __always_inline bool read_address(struct kg_address *address, void *data, void *end,
					 const struct headers *h, bool source)
{
	void *at = data + (h->ip & 0xff);

	if (h->flags & HEADERS_V6) {
		struct ipv6hdr *ip = at;

		if ((void *)(ip + 1) > end)
			return false;
		__builtin_memcpy(address, source ? &ip->saddr : &ip->daddr, sizeof(*address));
	} else {
		struct iphdr *ip = at;

		if ((void *)(ip + 1) > end)
			return false;
		address_of_v4(address, source ? ip->saddr : ip->daddr);
	}
	return true;
}

/* is_understood reports whether a header says something that we know how to do. */
static __always_inline bool is_understood(const struct kg_tunnel *t, bool v6)
{
	return t->gue == KG_TUNNEL_GUE && !t->gue_flags && t->version == KG_TUNNEL_VERSION &&
	       t->protocol == (v6 ? IPPROTO_IPV6 : IPPROTO_IPIP) &&
	       (t->kind == KG_TUNNEL_BACKEND || t->kind == KG_TUNNEL_OWNER);
}

/*
 * arrive recognises a UDP packet that another node has handed over. If it is one, *h tells
 * afterwards where the headers of the packet inside are, and *in what the other node wants.
 */
static __always_inline enum arrival arrive(void *ctx, bool skb, void *data, void *end,
					   struct headers *h, struct passage *in)
{
	struct cursor c = {data + (h->transport & KG_MAX_TRANSPORT), end};
	struct udphdr *udp = take(&c, sizeof(*udp));
	bool v6 = h->flags & HEADERS_V6;
	struct kg_address address;
	struct kg_tunnel *t;
	enum located inside;

	if (!udp || udp->dest != kg_tunnel_port || h->flags & (HEADERS_LATER | HEADERS_CUT) ||
	    !read_address(&address, data, end, h, false) || !is_node(&address, KG_NODE_SELF))
		return NOT_HANDED_OVER;
	if (!read_address(&address, data, end, h, true) || !is_node(&address, 0))
		return UNKNOWN_SENDER;
	t = take(&c, sizeof(*t));
	if (!t || h->flags & HEADERS_FRAGMENT || !is_understood(t, v6))
		return UNKNOWN_HEADER;
	if (!t->hops || t->hops > KG_MAX_HOPS)
		return TOO_MANY_HOPS;
	in->kind = t->kind;
	in->hops = t->hops;
	in->tries = t->tries;
	in->backend = t->backend;
	in->port = t->port;
	in->link = h->ip;
	in->outer = c.at - data - h->ip;
	h->flags = 0;
	inside = v6 ? locate_ipv6(ctx, skb, &c, data, h) : locate_ipv4(&c, data, h);
	return inside == LOCATED ? HANDED_OVER : UNKNOWN_HEADER;
}

/* arrive for either hook; not static, as locate_in_xdp. */
__noinline enum arrival arrive_in_xdp(struct xdp_md *ctx, struct headers *h, struct passage *in)
{
	if (!h || !in)
		return NOT_HANDED_OVER;
	return arrive(ctx, false, (void *)(long)ctx->data, (void *)(long)ctx->data_end, h, in);
}

__noinline enum arrival arrive_in_skb(struct __sk_buff *ctx, struct headers *h, struct passage *in)
{
	if (!h || !in)
		return NOT_HANDED_OVER;
	return arrive(ctx, true, (void *)(long)ctx->data, (void *)(long)ctx->data_end, h, in);
}

static __always_inline void write_tunnel(struct kg_tunnel *t, const struct passage *out, bool v6)
{
	t->gue = KG_TUNNEL_GUE;
	t->protocol = v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	t->gue_flags = 0;
	t->version = KG_TUNNEL_VERSION;
	t->kind = out->kind;
	t->hops = out->hops;
	t->tries = out->tries;
	t->backend = out->backend;
	t->port = out->port;
	t->pad = 0;
}

static __always_inline void write_udp(struct udphdr *udp, __be16 source, __u32 length)
{
	udp->source = source;
	udp->dest = kg_tunnel_port;
	udp->len = bpf_htons(length);
	udp->check = 0;
}

/* write_outer_v4 fills in the headers before a packet of that many bytes. Its class of
 * service shows outside; congestion marks do not pass between the two (RFC 6040 4.3,
 * compatibility mode). */
static __always_inline void write_outer_v4(struct outer_v4 *o, const struct kg_node *node,
					   const struct passage *out, __u32 inner, __u8 tos,
					   __be16 port)
{
	__u16 *words = (__u16 *)&o->ip;
	__u32 sum = 0;

	o->ip.version = 4;
	o->ip.ihl = sizeof(o->ip) / 4;
	o->ip.tos = tos & 0xfc;
	o->ip.tot_len = bpf_htons(sizeof(*o) + inner);
	o->ip.id = 0;
	o->ip.frag_off = bpf_htons(0x4000);
	o->ip.ttl = 64;
	o->ip.protocol = IPPROTO_UDP;
	o->ip.check = 0;
	__builtin_memcpy(&o->ip.saddr, &node->from4.bytes[12], sizeof(o->ip.saddr));
	__builtin_memcpy(&o->ip.daddr, &node->to4.bytes[12], sizeof(o->ip.daddr));
	for (__u32 i = 0; i < sizeof(o->ip) / sizeof(*words); i++)
		sum += words[i];
	o->ip.check = ~fold(sum);
	write_udp(&o->udp, port, sizeof(o->udp) + sizeof(o->tunnel) + inner);
	write_tunnel(&o->tunnel, out, false);
}

static __always_inline void write_outer_v6(struct outer_v6 *o, const struct kg_node *node,
					   const struct passage *out, __u32 inner, __u8 class,
					   __be16 port)
{
	*(__be32 *)&o->ip = bpf_htonl(0x60000000 | (__u32)(class & 0xfc) << 20 | bpf_ntohs(port));
	o->ip.payload_len = bpf_htons(sizeof(*o) - sizeof(o->ip) + inner);
	o->ip.nexthdr = IPPROTO_UDP;
	o->ip.hop_limit = 64;
	__builtin_memcpy(&o->ip.saddr, &node->from6, sizeof(o->ip.saddr));
	__builtin_memcpy(&o->ip.daddr, &node->to6, sizeof(o->ip.daddr));
	write_udp(&o->udp, port, sizeof(o->udp) + sizeof(o->tunnel) + inner);
	write_tunnel(&o->tunnel, out, true);
}

#endif
