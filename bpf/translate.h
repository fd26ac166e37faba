/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Writing another address and port into a packet, in XDP and in tc.
 *
 * XDP is attached only where checksums in packets are whole (package loader sees to it),
 * so they are corrected in place. In tc a checksum may be left for the device to finish:
 * there the kernel's helper knows what to do. It makes all pointers into the packet
 * invalid, so it comes last.
 */
#ifndef KG_TRANSLATE_H
#define KG_TRANSLATE_H

#include "checksum.h"
#include "hook.h"

/* A change of one end of a packet. */
struct translation {
	struct kg_address address;
	__be16 port; /* 0: only the address, of a later fragment */
};

/* write_address replaces the source or destination address in an IP header, its checksum
 * included, and returns the difference for checksums that cover a pseudo header. The header
 * was found to be whole before end; the verifier wants to see it again. */
static __always_inline __u64 write_address(void *header, void *end, bool v6, bool source,
					   const struct kg_address *from,
					   const struct kg_address *to)
{
	__u64 diff = difference_of_addresses(from, to, v6);

	if (v6) {
		struct ipv6hdr *ip = header;

		if ((void *)(ip + 1) > end)
			return 0;
		__builtin_memcpy(source ? &ip->saddr : &ip->daddr, to, sizeof(ip->saddr));
	} else {
		struct iphdr *ip = header;

		if ((void *)(ip + 1) > end)
			return 0;
		__builtin_memcpy(source ? &ip->saddr : &ip->daddr, &to->bytes[12],
				 sizeof(ip->saddr));
		fix(&ip->check, diff);
	}
	return diff;
}

/*
 * sum_of_addresses corrects the sum of the whole packet that a device may have given with it
 * (CHECKSUM_COMPLETE), for an IPv6 address that was replaced. IPv4 needs nothing: its header's
 * checksum outweighs the change. For a TCP or UDP packet nothing would be needed here either, as
 * that checksum does the same, but bpf_l4_csum_replace takes every pseudo header for one of IPv4
 * and has changed the sum; its flag BPF_F_IPV6 says otherwise, and only since Linux 6.16.
 */
static __always_inline void sum_of_addresses(struct __sk_buff *skb, __u64 diff)
{
	bpf_csum_update(skb, fold(diff)); /* refused unless there is such a sum */
}

/* fix_transport corrects a TCP or UDP checksum for another address and port. */
static __always_inline void fix_transport(const struct hook *h, const struct packet *p,
					  __u64 address_diff, __be16 from, __be16 to)
{
	bool udp = p->key.protocol == IPPROTO_UDP;

	if (h->tc) {
		__u32 at = (void *)p->check - h->data;
		__u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;

		bpf_l4_csum_replace(h->skb, at, 0, fold(address_diff), flags | BPF_F_PSEUDO_HDR);
		if (p->v6)
			sum_of_addresses(h->skb, address_diff);
		bpf_l4_csum_replace(h->skb, at, from, to, flags | sizeof(to));
		return;
	}
	if (udp && !*p->check) /* IPv4: the sender has made none */
		return;
	fix(p->check, address_diff + difference(from, to));
	if (udp && !*p->check)
		*p->check = 0xffff;
}

/* translate replaces the source (or the destination) of a packet. */
static __always_inline void translate(const struct hook *h, struct packet *p, bool source,
				      const struct translation *t)
{
	struct kg_address *from = source ? &p->key.source : &p->key.destination;
	__u64 diff = write_address(p->ip, h->end, p->v6, source, from, &t->address);
	__be16 *port, old;

	if (!t->port || !p->check) {
		if (h->tc && p->v6)
			sum_of_addresses(h->skb, diff);
		return;
	}
	/* Both protocols begin with the ports. */
	port = p->transport;
	if (!source)
		port++;
	old = *port;
	*port = t->port;
	fix_transport(h, p, diff, old, t->port);
}

#endif
