/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handing a packet to another node, and taking one that was handed over out of its outer
 * headers. In XDP that is done where it costs least: a packet that goes back out by the
 * interface that it came in on, to a neighbour that is known. All else XDP leaves to
 * kg_ingress, which is on the same interface and can ask for neighbours.
 */
#ifndef KG_HANDOVER_H
#define KG_HANDOVER_H

#include <linux/pkt_cls.h>

#include "l4.h"
#include "toobig.h"

/* What becomes of a packet that is handed on: SENT, or why not. */
enum handed {
	SENT = 0,
	TOO_BIG,
	NO_WAY,
	LEFT, /* XDP: as it is, to kg_ingress */
};

/* A packet to be handed on, and what is found out about its way. */
struct parcel {
	__u32 length; /* from its IP header on */
	__u32 way;    /* index of the interface by which it leaves */
	__u32 mtu;    /* of the way, if it is TOO_BIG */
	__be16 port;  /* UDP source port of the outer header */
	__u16 at;     /* offset of its IP header */
	__u8 outer;   /* size of the outer headers that it gets */
	__u8 had;     /* and of those with which it arrived, 0: none */
	__u8 class;   /* of service */
	__u8 flags;   /* enum parcel_flag */
};

enum parcel_flag {
	PARCEL_V6 = 1,
	PARCEL_UDP = 2,
	PARCEL_ANSWERABLE = 4, /* with an ICMP error: RFC 1122 section 3.2.2 */
};

/* outer_port returns the UDP source port of a packet's outer header: the same for all
 * packets of a connection, so that they stay in order, and another for most others, so
 * that queues and equal paths share the work. */
static __always_inline __be16 outer_port(__u32 source, __u32 ports)
{
	return bpf_htons(0xc000 | ((source ^ ports) * 0x9e3779b1) >> 18);
}

/* ports_of returns the ports of a packet as one word; 0 if it has none, or is a fragment,
 * for all of those must go one way. */
static __always_inline __u32 ports_of(void *data, void *end, const struct headers *h)
{
	__u32 *ports = data + (h->transport & KG_MAX_TRANSPORT);

	if ((h->protocol != IPPROTO_TCP && h->protocol != IPPROTO_UDP) ||
	    h->flags & (HEADERS_FRAGMENT | HEADERS_CUT) || (void *)(ports + 1) > end)
		return 0;
	return *ports;
}

/* weigh notes what is needed of a packet to hand it on, and reports whether it can be. */
static __always_inline bool weigh(struct parcel *parcel, void *data, void *end,
				  const struct headers *h, const struct passage *in)
{
	void *at = data + (h->ip & 0xff);
	__u32 ports = ports_of(data, end, h);

	parcel->at = h->ip;
	parcel->had = in->outer;
	if (h->protocol == IPPROTO_UDP)
		parcel->flags |= PARCEL_UDP;
	if ((h->protocol == IPPROTO_TCP || h->protocol == IPPROTO_UDP) &&
	    !(h->flags & HEADERS_LATER))
		parcel->flags |= PARCEL_ANSWERABLE;
	if (h->flags & HEADERS_V6) {
		struct ipv6hdr *ip = at;

		if ((void *)(ip + 1) > end)
			return false;
		parcel->flags |= PARCEL_V6;
		parcel->outer = sizeof(struct outer_v6);
		parcel->class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
		parcel->length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
		parcel->port = outer_port(
			ip->saddr.in6_u.u6_addr32[1] ^ ip->saddr.in6_u.u6_addr32[3], ports);
	} else {
		struct iphdr *ip = at;

		if ((void *)(ip + 1) > end)
			return false;
		parcel->outer = sizeof(struct outer_v4);
		parcel->class = ip->tos;
		parcel->length = bpf_ntohs(ip->tot_len);
		parcel->port = outer_port(ip->saddr, ports);
	}
	return true;
}

/* ask_route fills in the question how a packet gets to a node, and reports whether the
 * node, and this one, have addresses of its family. length 0: of no concern. */
static __always_inline bool ask_route(struct bpf_fib_lookup *fib, const struct kg_node *node,
				      bool v6, __u32 ifindex, __u32 length)
{
	fib->ifindex = ifindex;
	fib->l4_protocol = IPPROTO_UDP;
	fib->dport = kg_tunnel_port;
	fib->tot_len = length;
	if (v6) {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &node->from6, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, &node->to6, sizeof(fib->ipv6_dst));
		return fib->ipv6_src[0] && fib->ipv6_dst[0];
	}
	fib->family = AF_INET;
	__builtin_memcpy(&fib->ipv4_src, &node->from4.bytes[12], sizeof(fib->ipv4_src));
	__builtin_memcpy(&fib->ipv4_dst, &node->to4.bytes[12], sizeof(fib->ipv4_dst));
	return fib->ipv4_src && fib->ipv4_dst;
}

/* mtu_of returns the size that the kernel says a way takes. Before 5.13 it does not; then
 * the least that every way takes. */
static __always_inline __u32 mtu_of(const struct bpf_fib_lookup *fib, __u32 asked)
{
	return fib->mtu_result && fib->mtu_result < asked ? fib->mtu_result : 1280;
}

/*
 * find_way_in_skb finds out how a packet gets to its node: SENT if it can be sent,
 * TOO_BIG or NO_WAY. Of several segments in one the kernel makes ones that fit.
 */
__noinline enum handed find_way_in_skb(struct __sk_buff *skb, struct parcel *parcel,
				       const struct passage *out)
{
	struct bpf_fib_lookup fib = {};
	struct kg_node *node;
	kg_node_id id;
	__u32 length;

	if (!parcel || !out)
		return NO_WAY;
	id = out->node; /* a key must be on the stack */
	node = bpf_map_lookup_elem(&kg_nodes, &id);
	/* A second VLAN tag is in the packet, where the kernel would not move it along. */
	if (!node || (parcel->at != ETH_HLEN + parcel->had && parcel->at != parcel->had))
		return NO_WAY;
	length = parcel->length + parcel->outer;
	if (skb->gso_size) {
		parcel->length = skb->len - parcel->at;
		length = 0;
	}
	if (!ask_route(&fib, node, parcel->flags & PARCEL_V6, skb->ifindex, length))
		return NO_WAY;
	switch (bpf_fib_lookup(skb, &fib, sizeof(fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		parcel->way = fib.ifindex;
		return SENT;
	case BPF_FIB_LKUP_RET_FWD_DISABLED: /* of no concern: we forward, not the kernel */
		parcel->way = skb->ifindex;
		return SENT;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		parcel->mtu = mtu_of(&fib, length);
		return parcel->flags & PARCEL_ANSWERABLE ? TOO_BIG : NO_WAY;
	}
	return NO_WAY;
}

/* unwrap_skb takes off the headers that a packet came behind; 0 if it worked. */
static __always_inline long unwrap_skb(struct __sk_buff *skb, __u32 outer, bool udp)
{
	__u64 flags = udp ? BPF_F_ADJ_ROOM_FIXED_GSO : 0;

	return bpf_skb_adjust_room(skb, -(__s32)outer, BPF_ADJ_ROOM_MAC, flags);
}

/* make_room makes room for the outer headers, unless a packet came behind such: those are of
 * the same size, and are overwritten. */
static __always_inline long make_room(struct __sk_buff *skb, const struct parcel *parcel,
				      __u32 size, __u64 family)
{
	__u64 flags = BPF_F_ADJ_ROOM_ENCAP_L4_UDP | family;

	if (parcel->had)
		return 0;
	if (parcel->flags & PARCEL_UDP)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	return bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC, flags);
}

/* send_from_skb sends a packet on the way that was found. If it is SENT, the program must
 * return TC_ACT_REDIRECT. */
__noinline enum handed send_from_skb(struct __sk_buff *skb, const struct parcel *parcel,
				     const struct passage *out)
{
	struct kg_node *node;
	kg_node_id id;
	union {
		struct outer_v4 v4;
		struct outer_v6 v6;
	} o = {};
	__u32 link; /* bytes of the Ethernet header, if there is one */

	if (!parcel || !out)
		return NO_WAY;
	link = parcel->at == parcel->had ? 0 : ETH_HLEN;
	id = out->node; /* a key must be on the stack */
	node = bpf_map_lookup_elem(&kg_nodes, &id);
	if (!node)
		return NO_WAY;
	if (parcel->flags & PARCEL_V6) {
		write_outer_v6(&o.v6, node, out, parcel->length, parcel->class, parcel->port);
		if (make_room(skb, parcel, sizeof(o.v6), BPF_F_ADJ_ROOM_ENCAP_L3_IPV6) ||
		    bpf_skb_store_bytes(skb, link, &o, sizeof(o.v6), BPF_F_RECOMPUTE_CSUM))
			return NO_WAY;
	} else {
		write_outer_v4(&o.v4, node, out, parcel->length, parcel->class, parcel->port);
		if (make_room(skb, parcel, sizeof(o.v4), BPF_F_ADJ_ROOM_ENCAP_L3_IPV4) ||
		    bpf_skb_store_bytes(skb, link, &o, sizeof(o.v4), BPF_F_RECOMPUTE_CSUM))
			return NO_WAY;
	}
	return bpf_redirect_neigh(parcel->way, NULL, 0, 0) == TC_ACT_REDIRECT ? SENT : NO_WAY;
}

/* answer_too_big tells the sender of a packet that it is TOO_BIG; 0 if it worked, and then
 * the program must return TC_ACT_REDIRECT. */
__noinline int answer_too_big(struct __sk_buff *skb, const struct parcel *parcel)
{
	if (!parcel)
		return -1;
	if (parcel->had && unwrap_skb(skb, parcel->had, parcel->flags & PARCEL_UDP))
		return -1;
	return tell_too_big(skb, parcel->flags & PARCEL_V6, parcel->mtu - parcel->outer,
			    parcel->at == parcel->had);
}

/* unwrap_in_skb takes off the headers that a packet came behind which stays here. */
__noinline enum handed unwrap_in_skb(struct __sk_buff *skb, const struct headers *h,
				     const struct passage *in)
{
	if (!h || !in || (in->link && in->link != ETH_HLEN))
		return NO_WAY;
	return unwrap_skb(skb, in->outer, h->protocol == IPPROTO_UDP) ? NO_WAY : SENT;
}

/* move_link moves an Ethernet header with this many VLAN tags ahead by some bytes. */
static __always_inline bool move_link(struct xdp_md *ctx, __u32 tags, __u32 by)
{
	struct cursor from = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct cursor to = {from.at + by, from.end};
	const __u32 size = ETH_HLEN + tags * sizeof(struct vlan_tag);
	void *source = take(&from, size), *target = take(&to, size);
	__u8 link[ETH_HLEN + KG_MAX_VLANS * sizeof(struct vlan_tag)];

	if (!source || !target)
		return false;
	__builtin_memcpy(link, source, size); /* the two may overlap */
	__builtin_memcpy(target, link, size);
	return true;
}

/* unwrap_in_xdp takes off the headers that a packet came behind, VLAN tags or not. */
__noinline enum handed unwrap_in_xdp(struct xdp_md *ctx, const struct passage *in)
{
	bool moved = false;

	if (!in)
		return NO_WAY;
	if (in->link == ETH_HLEN)
		moved = move_link(ctx, 0, in->outer);
	else if (in->link == ETH_HLEN + sizeof(struct vlan_tag))
		moved = move_link(ctx, 1, in->outer);
	else if (in->link == ETH_HLEN + 2 * sizeof(struct vlan_tag))
		moved = move_link(ctx, 2, in->outer);
	return moved && !bpf_xdp_adjust_head(ctx, in->outer) ? SENT : NO_WAY;
}

/* write_in_xdp writes the Ethernet and outer headers into the room before a packet. */
static __always_inline bool write_in_xdp(struct xdp_md *ctx, const struct parcel *parcel,
					 const struct bpf_fib_lookup *fib,
					 const struct kg_node *node, const struct passage *out)
{
	struct cursor c = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct ethhdr *eth = take(&c, sizeof(*eth));

	if (!eth)
		return false;
	__builtin_memcpy(eth->h_source, fib->smac, sizeof(eth->h_source));
	__builtin_memcpy(eth->h_dest, fib->dmac, sizeof(eth->h_dest));
	if (parcel->flags & PARCEL_V6) {
		struct outer_v6 *o = take(&c, sizeof(*o));

		if (!o)
			return false;
		eth->h_proto = bpf_htons(ETH_P_IPV6);
		write_outer_v6(o, node, out, parcel->length, parcel->class, parcel->port);
	} else {
		struct outer_v4 *o = take(&c, sizeof(*o));

		if (!o)
			return false;
		eth->h_proto = bpf_htons(ETH_P_IP);
		write_outer_v4(o, node, out, parcel->length, parcel->class, parcel->port);
	}
	return true;
}

/* send_from_xdp sends a packet to its node: if it is SENT, the program must return XDP_TX.
 * What it cannot do it leaves as it was. */
__noinline enum handed send_from_xdp(struct xdp_md *ctx, const struct parcel *parcel,
				     const struct passage *out)
{
	struct bpf_fib_lookup fib = {};
	struct kg_node *node;
	kg_node_id id;

	if (!parcel || !out)
		return NO_WAY;
	id = out->node; /* a key must be on the stack */
	node = bpf_map_lookup_elem(&kg_nodes, &id);
	if (!node || !ask_route(&fib, node, parcel->flags & PARCEL_V6, ctx->ingress_ifindex,
				parcel->length + parcel->outer))
		return NO_WAY;
	if (parcel->at != ETH_HLEN + parcel->had ||
	    bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS ||
	    fib.ifindex != ctx->ingress_ifindex)
		return LEFT;
	if (!parcel->had && bpf_xdp_adjust_head(ctx, -(int)parcel->outer))
		return LEFT;
	return write_in_xdp(ctx, parcel, &fib, node, out) ? SENT : NO_WAY;
}

#endif
