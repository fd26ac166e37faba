/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A cursor over packet bytes. Every step checks its bounds before it moves, so a program
 * that uses it cannot read past the packet; a step that fails leaves the cursor in place.
 */
#ifndef KG_PARSE_H
#define KG_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "kernel.h"

/* VLAN tags that are looked through: a customer's and a provider's. */
#define KG_MAX_VLANS 2
struct cursor {
	void *at;
	void *end; /* one past the last byte */
};

struct vlan_tag {
	__be16 tci;
	__be16 next; /* EtherType of what follows */
};

/* What an IPv6 hop-by-hop, routing or destination options header begins with. */
struct extension {
	__u8 next;
	__u8 length; /* in units of 8 bytes, without the first 8 */
};

struct fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset; /* upper 13 bits, in units of 8 bytes */
	__be32 id;
};

/* What an ICMP message of either version begins with. (linux/icmp.h needs a C library.) */
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 rest; /* by type: next hop's MTU, pointer, ... */
};

/* Types that quote a packet: RFC 792, RFC 4443 section 2.1. */
enum {
	ICMP_UNREACHABLE = 3,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER = 12,
	ICMP6_UNREACHABLE = 1, /* then: too big, time exceeded */
	ICMP6_PARAMETER = 4,
};

/* take returns the next size bytes and moves behind them, or NULL if there are fewer.
 * size must be a constant. */
static __always_inline void *take(struct cursor *c, __u32 size)
{
	void *at = c->at;

	if (at + size > c->end)
		return NULL;
	c->at = at + size;
	return at;
}

/* skip moves behind the next size bytes (at most 2 KiB) and reports whether they exist. */
static __always_inline bool skip(struct cursor *c, __u32 size)
{
	void *at = c->at + (size & 0x7ff);

	if (at > c->end)
		return false;
	c->at = at;
	return true;
}

/* take_ethernet returns the EtherType (host byte order) of what follows the Ethernet
 * header and up to two VLAN tags; 0 if they are cut short. */
static __always_inline __u16 take_ethernet(struct cursor *c)
{
	struct ethhdr *eth = take(c, sizeof(*eth));
	__be16 type;

	if (!eth)
		return 0;
	type = eth->h_proto;
	for (int i = 0; i < KG_MAX_VLANS; i++) {
		struct vlan_tag *tag;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		tag = take(c, sizeof(*tag));
		if (!tag)
			return 0;
		type = tag->next;
	}
	return bpf_ntohs(type);
}

/* take_ipv4 returns the header and moves behind it and its options; NULL if they are cut
 * short or the header's own length or version is wrong. */
static __always_inline struct iphdr *take_ipv4(struct cursor *c)
{
	struct iphdr *ip = take(c, sizeof(*ip));

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return NULL;
	if (!skip(c, ip->ihl * 4 - sizeof(*ip)))
		return NULL;
	return ip;
}

/* take_ipv6 returns the fixed header; NULL if it is cut short or of another version. */
static __always_inline struct ipv6hdr *take_ipv6(struct cursor *c)
{
	struct ipv6hdr *ip = take(c, sizeof(*ip));

	return ip && ip->version == 6 ? ip : NULL;
}

#endif
