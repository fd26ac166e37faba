/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs that judge packets know of one: addresses first, ports when asked for. */
#ifndef KG_PACKET_H
#define KG_PACKET_H

#include <linux/tcp.h>
#include <linux/udp.h>

#include "net.h"
#include "parse.h"

/* Where the headers of a packet are: what locate finds out. */
struct headers {
	__u16 ip;        /* offsets from the first byte */
	__u16 transport; /* or of what else follows the IP headers */
	__u8 protocol;   /* of what is at transport */
	__u8 flags;      /* enum header_flag */
	__u16 fragment;  /* KG_FRAGMENT_MORE, and the offset in units of 8 bytes */
	__be32 fragment_id;
};

/* Bits of headers.fragment, as IPv4 has them. */
#define KG_FRAGMENT_MORE 0x2000
#define KG_FRAGMENT_OFFSET 0x1fff

enum header_flag {
	HEADERS_V6 = 1,
	HEADERS_FRAGMENT = 2,
	HEADERS_LATER = 4,   /* a fragment other than the first: nothing is at transport */
	HEADERS_CUT = 8,     /* extension headers are cut short, or too many or long for us */
	HEADERS_SIEVED = 16, /* the source is known not to be denied */
};

/* The furthest that a transport header may begin. */
#define KG_MAX_TRANSPORT 0x7ff

enum located {
	LOCATED,
	LOCATED_NOT_IP,
	LOCATED_MALFORMED, /* no whole IP header of the version that the Ethernet header says */
};

static __always_inline enum located locate_ipv4(struct cursor *c, void *data, struct headers *h)
{
	struct iphdr *ip;

	h->ip = c->at - data;
	ip = take_ipv4(c);
	if (!ip)
		return LOCATED_MALFORMED;
	h->transport = c->at - data;
	h->protocol = ip->protocol;
	h->fragment_id = ip->id;
	h->fragment = bpf_ntohs(ip->frag_off) & (KG_FRAGMENT_MORE | KG_FRAGMENT_OFFSET);
	if (h->fragment)
		h->flags |= HEADERS_FRAGMENT;
	if (h->fragment & KG_FRAGMENT_OFFSET)
		h->flags |= HEADERS_LATER;
	return LOCATED;
}

/* IPv6 extension headers that are looked through before giving up. */
#define KG_MAX_EXTENSIONS 8

/* What step_extension returns. */
#define EXTENSION_CUT -1                          /* cut short, or ends beyond what we follow */
#define EXTENSION_NEXT(step) ((step) & 0xff)      /* protocol of what follows */
#define EXTENSION_AT(step) ((step) >> 8 & 0xffff) /* and where that is */
#define EXTENSION_LATER 0x1000000                 /* a fragment header of a later fragment */

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_AH ||
	       protocol == IPPROTO_FRAGMENT;
}

/* step_extension looks at the extension header of a protocol at an offset, and says what
 * is behind it. */
static __always_inline int step_extension(void *data, void *end, __u32 at, __u8 protocol)
{
	struct cursor c = {data + (at & KG_MAX_TRANSPORT), end};
	struct fragment *header = take(&c, sizeof(*header)); /* none is shorter than that */
	__u32 length;
	int later = 0;

	if (!header)
		return EXTENSION_CUT;
	length = ((struct extension *)header)->length;
	switch (protocol) {
	case IPPROTO_FRAGMENT:
		length = 8;
		if (header->offset & bpf_htons(0xfff8))
			later = EXTENSION_LATER;
		break;
	case IPPROTO_AH: /* its length counts 4-byte words, without the first two */
		length = length * 4 + 8;
		break;
	default:
		length = length * 8 + 8;
	}
	at += length;
	if (at > KG_MAX_TRANSPORT || data + at > end)
		return EXTENSION_CUT;
	return later | at << 8 | header->next;
}

/* Not static, as locate_in_xdp and for the same reason. */
__noinline int step_in_xdp(struct xdp_md *ctx, __u32 at, __u8 protocol)
{
	return step_extension((void *)(long)ctx->data, (void *)(long)ctx->data_end, at, protocol);
}

__noinline int step_in_skb(struct __sk_buff *ctx, __u32 at, __u8 protocol)
{
	return step_extension((void *)(long)ctx->data, (void *)(long)ctx->data_end, at, protocol);
}

/* read_fragment notes what the fragment header at an offset says. */
static __always_inline void read_fragment(void *data, void *end, __u32 at, struct headers *h)
{
	struct cursor c = {data + (at & KG_MAX_TRANSPORT), end};
	struct fragment *fragment = take(&c, sizeof(*fragment));

	if (!fragment)
		return;
	h->fragment_id = fragment->id;
	h->fragment = bpf_ntohs(fragment->offset) >> 3;
	if (fragment->offset & bpf_htons(1))
		h->fragment |= KG_FRAGMENT_MORE;
	/* One that is neither followed nor later (RFC 6946) is a whole packet. */
	if (h->fragment)
		h->flags |= HEADERS_FRAGMENT;
	if (h->fragment & KG_FRAGMENT_OFFSET)
		h->flags |= HEADERS_LATER;
}

static __always_inline enum located locate_ipv6(void *ctx, bool skb, struct cursor *c, void *data,
						struct headers *h)
{
	struct ipv6hdr *ip;
	__u32 at, fragment = 0;
	__u8 next;

	h->ip = c->at - data;
	h->flags = HEADERS_V6;
	ip = take_ipv6(c);
	if (!ip)
		return LOCATED_MALFORMED;
	next = ip->nexthdr;
	at = c->at - data;
	for (int i = 0; i < KG_MAX_EXTENSIONS && is_extension(next); i++) {
		int step = skb ? step_in_skb(ctx, at, next) : step_in_xdp(ctx, at, next);

		if (step == EXTENSION_CUT) {
			h->flags |= HEADERS_CUT;
			return LOCATED;
		}
		if (next == IPPROTO_FRAGMENT)
			fragment = at;
		at = EXTENSION_AT(step);
		next = EXTENSION_NEXT(step);
		if (step & EXTENSION_LATER)
			goto end;
	}
	if (is_extension(next))
		h->flags |= HEADERS_CUT;
end:
	h->transport = at;
	h->protocol = next;
	if (fragment)
		read_fragment(data, c->end, fragment, h);
	return LOCATED;
}

static __always_inline enum located locate(void *ctx, bool skb, void *data, void *end,
					   struct headers *h)
{
	struct cursor c = {data, end};

	switch (take_ethernet(&c)) {
	case ETH_P_IP:
		return locate_ipv4(&c, data, h);
	case ETH_P_IPV6:
		return locate_ipv6(ctx, skb, &c, data, h);
	case 0:
		return LOCATED_MALFORMED;
	}
	return LOCATED_NOT_IP;
}

/* locate_bare is locate for an interface whose packets have no Ethernet header. */
static __always_inline enum located locate_bare(void *ctx, void *data, void *end, struct headers *h)
{
	struct cursor c = {data, end};
	__u8 *first = data;

	if ((void *)(first + 1) > end)
		return LOCATED_MALFORMED;
	switch (*first >> 4) {
	case 4:
		return locate_ipv4(&c, data, h);
	case 6:
		return locate_ipv6(ctx, true, &c, data, h);
	}
	return LOCATED_NOT_IP;
}

/*
 * locate_plain is locate for most packets, TCP and UDP without VLAN tags, IP options,
 * extension headers or fragments, and reports whether this is one. It is worth its lines
 * because nothing is called: a return from a function takes some 8 ns where the CPU has to
 * be kept from guessing it.
 */
static __always_inline bool locate_plain(void *data, void *end, struct headers *h)
{
	struct ethhdr *eth = data;
	struct iphdr *v4 = (void *)(eth + 1);
	struct ipv6hdr *v6 = (void *)(eth + 1);

	if ((void *)(v4 + 1) > end)
		return false;
	h->ip = sizeof(*eth);
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		h->transport = sizeof(*eth) + sizeof(*v4);
		h->protocol = v4->protocol;
		return *(__u8 *)v4 == 0x45 && !(v4->frag_off & bpf_htons(0x3fff));
	}
	if (eth->h_proto != bpf_htons(ETH_P_IPV6) || (void *)(v6 + 1) > end)
		return false;
	h->flags = HEADERS_V6;
	h->transport = sizeof(*eth) + sizeof(*v6);
	h->protocol = v6->nexthdr;
	return *(__u8 *)v6 >> 4 == 6 && (v6->nexthdr == IPPROTO_TCP || v6->nexthdr == IPPROTO_UDP);
}

/*
 * locate for either hook. Not static, so that the verifier walks through all the ways that
 * headers can follow each other once, and not again for each of them through all that
 * comes after.
 */
__noinline enum located locate_in_xdp(struct xdp_md *ctx, struct headers *h)
{
	if (!h)
		return LOCATED_MALFORMED;
	__builtin_memset(h, 0, sizeof(*h)); /* locate_plain may have begun */
	return locate(ctx, false, (void *)(long)ctx->data, (void *)(long)ctx->data_end, h);
}

__noinline enum located locate_in_skb(struct __sk_buff *ctx, struct headers *h)
{
	if (!h)
		return LOCATED_MALFORMED;
	__builtin_memset(h, 0, sizeof(*h));
	return locate(ctx, true, (void *)(long)ctx->data, (void *)(long)ctx->data_end, h);
}

__noinline enum located locate_bare_in_skb(struct __sk_buff *ctx, struct headers *h)
{
	if (!h)
		return LOCATED_MALFORMED;
	return locate_bare(ctx, (void *)(long)ctx->data, (void *)(long)ctx->data_end, h);
}

struct packet {
	struct kg_flow_key key; /* ports: after read_transport */
	struct cursor rest;     /* behind the transport header */
	void *ip;               /* struct iphdr or struct ipv6hdr */
	void *transport;        /* struct tcphdr, udphdr or icmp; NULL: none of these */
	__sum16 *check;         /* of TCP or UDP */
	__be32 fragment_id;
	bool v6;
	bool fragment;
	bool later;
	bool syn; /* TCP flags */
	bool ack;
	bool fin;
	bool rst;
	__u8 flags;   /* all of them */
	__u16 length; /* of TCP's header; of UDP, as it says itself */
};

/* read_addresses reads the IP header that was located, and reports whether it is there.
 * It always is; the check is for the verifier. */
static __always_inline bool read_addresses(struct packet *p, void *data, void *end,
					   const struct headers *h)
{
	void *at = data + (h->ip & 0xff);

	p->ip = at;
	p->v6 = h->flags & HEADERS_V6;
	p->fragment = h->flags & HEADERS_FRAGMENT;
	p->later = h->flags & HEADERS_LATER;
	p->fragment_id = h->fragment_id;
	p->key.protocol = h->protocol;
	if (p->v6) {
		struct ipv6hdr *ip = at;

		if ((void *)(ip + 1) > end)
			return false;
		address_of_v6(&p->key.source, &ip->saddr);
		address_of_v6(&p->key.destination, &ip->daddr);
	} else {
		struct iphdr *ip = at;

		if ((void *)(ip + 1) > end)
			return false;
		address_of_v4(&p->key.source, ip->saddr);
		address_of_v4(&p->key.destination, ip->daddr);
	}
	return true;
}

/* read_ports completes the key: ports, with which both protocols begin, and protocol in one
 * word (see address_of_v4). */
static __always_inline void read_ports(struct packet *p, const void *transport, __u8 protocol)
{
	__u64 *word = (__u64 *)&p->key.source_port;

	*word = *(const __u32 *)transport | (__u64)protocol << 32;
}
_Static_assert(offsetof(struct kg_flow_key, protocol) == 36 && sizeof(struct kg_flow_key) == 40,
	       "read_ports writes ports, protocol and direction");

static __always_inline bool read_tcp(struct packet *p)
{
	struct tcphdr *tcp = take(&p->rest, sizeof(*tcp));

	if (!tcp)
		return false;
	p->transport = tcp;
	p->check = &tcp->check;
	read_ports(p, tcp, IPPROTO_TCP);
	p->syn = tcp->syn;
	p->ack = tcp->ack;
	p->fin = tcp->fin;
	p->rst = tcp->rst;
	p->flags = ((__u8 *)tcp)[13];
	p->length = tcp->doff * 4;
	return true;
}

static __always_inline bool read_udp(struct packet *p)
{
	struct udphdr *udp = take(&p->rest, sizeof(*udp));

	if (!udp)
		return false;
	p->transport = udp;
	p->length = bpf_ntohs(udp->len);
	p->check = &udp->check;
	read_ports(p, udp, IPPROTO_UDP);
	return true;
}

/* read_transport reads the transport header, and reports whether all headers are whole. Of
 * a protocol that is not ours nothing is asked. */
static __always_inline bool read_transport(struct packet *p, void *data, void *end,
					   const struct headers *h)
{
	if (h->flags & HEADERS_CUT)
		return false;
	if (p->later)
		return true;
	p->rest.at = data + (h->transport & KG_MAX_TRANSPORT);
	p->rest.end = end;
	switch (p->key.protocol) {
	case IPPROTO_TCP:
		return read_tcp(p);
	case IPPROTO_UDP:
		return read_udp(p);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (p->v6 == (p->key.protocol == IPPROTO_ICMPV6))
			p->transport = take(&p->rest, sizeof(struct icmp));
	}
	return true;
}

#endif
