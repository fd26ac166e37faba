/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Telling the sender of a packet that it is too big for the way to another node, in the
 * name of the address that it was sent to: RFC 1191 section 4, RFC 4443 section 3.2. So
 * clients learn the size that fits, as from any router.
 */
#ifndef KG_TOOBIG_H
#define KG_TOOBIG_H

#include <linux/pkt_cls.h>

#include "checksum.h"
#include "packet.h"

/* Bytes of the packet that are quoted: all headers, and far less than a packet that is too
 * big for anything has. Every way takes the message (RFC 1812 section 4.3.2.3). */
#define KG_QUOTE 256

#define ICMP_FRAG_NEEDED 4 /* code of ICMP_UNREACHABLE */
#define ICMP6_TOO_BIG 2

struct too_big_v4 {
	struct iphdr ip;
	struct icmp icmp;
};

struct too_big_v6 {
	struct ipv6hdr ip;
	struct icmp icmp;
};

/* sum_of returns the sum of a message's first bytes and of the quote behind them; size is a
 * constant. */
static __always_inline __u64 sum_of(struct cursor *c, struct icmp *icmp)
{
	void *quote = take(c, KG_QUOTE);
	__s64 sum;

	if (!quote)
		return 0;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp), 0);
	return (__u32)bpf_csum_diff(NULL, 0, quote, KG_QUOTE, (__u32)sum);
}

static __always_inline bool answer_v4(struct cursor *c, __u32 mtu)
{
	struct too_big_v4 *m = take(c, sizeof(*m));
	__u16 *words = (__u16 *)m;
	struct cursor quote = *c;
	struct iphdr *about = take(&quote, sizeof(*about));
	__u32 sum = 0;

	if (!m || !about)
		return false;
	m->ip.version = 4;
	m->ip.ihl = sizeof(m->ip) / 4;
	m->ip.tos = 0xc0; /* internetwork control: RFC 1812 section 4.3.2.5 */
	m->ip.tot_len = bpf_htons(sizeof(*m) + KG_QUOTE);
	m->ip.id = 0;
	m->ip.frag_off = 0;
	m->ip.ttl = 64;
	m->ip.protocol = IPPROTO_ICMP;
	m->ip.check = 0;
	m->ip.saddr = about->daddr;
	m->ip.daddr = about->saddr;
	for (__u32 i = 0; i < sizeof(m->ip) / sizeof(*words); i++)
		sum += words[i];
	m->ip.check = ~fold(sum);
	m->icmp.type = ICMP_UNREACHABLE;
	m->icmp.code = ICMP_FRAG_NEEDED;
	m->icmp.check = 0;
	m->icmp.rest = bpf_htonl(mtu);
	m->icmp.check = ~fold(sum_of(c, &m->icmp));
	return true;
}

static __always_inline bool answer_v6(struct cursor *c, __u32 mtu)
{
	struct too_big_v6 *m = take(c, sizeof(*m));
	struct cursor quote = *c;
	struct ipv6hdr *about = take(&quote, sizeof(*about));
	__u64 sum;

	if (!m || !about)
		return false;
	*(__be32 *)&m->ip = bpf_htonl(0x60000000);
	m->ip.payload_len = bpf_htons(sizeof(m->icmp) + KG_QUOTE);
	m->ip.nexthdr = IPPROTO_ICMPV6;
	m->ip.hop_limit = 64;
	__builtin_memcpy(&m->ip.saddr, &about->daddr, sizeof(m->ip.saddr));
	__builtin_memcpy(&m->ip.daddr, &about->saddr, sizeof(m->ip.daddr));
	m->icmp.type = ICMP6_TOO_BIG;
	m->icmp.code = 0;
	m->icmp.check = 0;
	m->icmp.rest = bpf_htonl(mtu);
	/* The pseudo header's addresses stand where they are summed with the message. */
	sum = (__u32)bpf_csum_diff(NULL, 0, (__be32 *)&m->ip.saddr, 2 * sizeof(m->ip.saddr), 0);
	sum += sum_of(c, &m->icmp) + bpf_htonl(sizeof(m->icmp) + KG_QUOTE) +
	       bpf_htonl(IPPROTO_ICMPV6);
	m->icmp.check = ~fold(sum);
	return true;
}

/* turn_link has a packet go back to the Ethernet address that it came from. */
static __always_inline bool turn_link(struct cursor *c)
{
	struct ethhdr *eth = take(c, sizeof(*eth));
	__u8 mac[ETH_ALEN];

	if (!eth)
		return false;
	__builtin_memcpy(mac, eth->h_source, sizeof(mac));
	__builtin_memcpy(eth->h_source, eth->h_dest, sizeof(mac));
	__builtin_memcpy(eth->h_dest, mac, sizeof(mac));
	return true;
}

/* tell_too_big makes a packet into the answer to it and sends that back where the packet
 * came from; 0 if it worked. l3: it has no Ethernet header. */
static __always_inline long tell_too_big(struct __sk_buff *skb, bool v6, __u32 mtu, bool l3)
{
	__u32 room = v6 ? sizeof(struct too_big_v6) : sizeof(struct too_big_v4);
	__u32 link = l3 ? 0 : ETH_HLEN;
	struct cursor c;

	if (bpf_skb_change_tail(skb, link + KG_QUOTE, 0) ||
	    bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) ||
	    bpf_skb_pull_data(skb, link + room + KG_QUOTE))
		return -1;
	c.at = (void *)(long)skb->data;
	c.end = (void *)(long)skb->data_end;
	if (!l3 && !turn_link(&c))
		return -1;
	if (!(v6 ? answer_v6(&c, mtu) : answer_v4(&c, mtu)))
		return -1;
	return bpf_redirect(skb->ifindex, 0) == TC_ACT_REDIRECT ? 0 : -1;
}

#endif
